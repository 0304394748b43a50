"""Tests of how a conversation becomes a prompt."""

import pytest

pytest.importorskip("jinja2")

import llamacpp_jinja
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import (
    File,
    Image,
    Message,
    Reasoning,
    Text,
    Tool,
    ToolCall,
    ToolResult,
    assistant,
    system,
    user,
)
from llamacpp_chat import ChatTemplate
from llamacpp_turns import read_turns

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
NEVER_OPENS = CHATML.partition("{% if add")[0]
NO_SYSTEM = (
    "{{ bos_token }}{% for message in messages %}{% if message.role == 'system' %}{{ raise_exception('no system') }}"
    "{% elif message.role == 'user' %}[INST] {{ message.content | trim }} [/INST]"
    "{% else %} {{ message.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)
DROPS_SYSTEM = (
    "{% for message in messages %}{% if message.role != 'system' %}<{{ message.role }}>{{ message.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def prompt(source: str, *messages: Message) -> str:
    return ChatTemplate(source, "<s>", "</s>").prompt(messages).text


def test_a_question_ends_where_the_answer_begins() -> None:
    assert prompt(CHATML, user("Hi")) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_a_partial_answer_is_continued_as_it_is() -> None:
    opened = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    for partial in ("The capital of", "The capital of ", "  <think>", "a\n\n"):
        assert prompt(CHATML, user("Hi"), assistant(partial)) == opened + partial


@pytest.mark.parametrize("partial", ["", "The capital of"])
def test_a_template_that_never_opens_a_turn_is_cut_at_a_marker(partial: str) -> None:
    messages = (user("Hi"), assistant(partial)) if partial else (user("Hi"),)
    assert prompt(NEVER_OPENS, *messages) == f"<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n{partial}"


def test_white_space_at_the_seam_is_neither_doubled_nor_lost() -> None:
    template = ChatTemplate(NO_SYSTEM, "<s>", "</s>")
    fresh = template.prompt((user("Hi"),))
    assert (fresh.text, fresh.lstrip) == ("<s>[INST] Hi [/INST]", True)
    assert template.prompt((user("Hi"), assistant("The cap"))).text == "<s>[INST] Hi [/INST] The cap"
    assert template.prompt((user("Hi"), assistant(" The cap"))).text == "<s>[INST] Hi [/INST] The cap"


@pytest.mark.parametrize(
    ("source", "text"),
    [(NO_SYSTEM, "<s>[INST] Be brief.\n\nHi [/INST]"), (DROPS_SYSTEM, "<user>Be brief.\n\nHi<assistant>")],
)
def test_a_system_prompt_that_the_template_refuses_is_said_by_the_user(source: str, text: str) -> None:
    assert prompt(source, system("Be brief."), user("Hi")) == text


def test_neighbours_of_one_role_are_merged_with_a_blank_line() -> None:
    turns = read_turns((user("a"), user("b"), assistant("c"), assistant("d")))
    assert [(turn.role, turn.content) for turn in turns] == [("user", "a\n\nb"), ("assistant", "c\n\nd")]


def test_reasoning_of_earlier_turns_is_left_out() -> None:
    message = Message("assistant", (Reasoning("hm"), Text("Yes.")))
    assert read_turns((message,))[0].content == "Yes."


def test_a_document_that_is_text_is_read_where_it_stands() -> None:
    document = File("a.txt", "text/plain", "Grüße".encode())
    assert read_turns((Message("user", (document, Text("What is it?"))),))[0].content == "a.txt:\nGrüße\n\nWhat is it?"


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (Message("user", (Image(url="x"),)), "message 1: the llamacpp driver reads text and tool calls, found Image"),
        (Message("user", (File("a.pdf", "application/pdf", b"%PDF"),)), "reads text and tool calls, found File"),
        (Message("user", (ToolCall("1", "f"),)), "message 1: expected tool calls of the assistant, found the user's"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(message: Message, found: str) -> None:
    with pytest.raises(InvalidRequest, match=found):
        read_turns((message,))


def test_a_conversation_without_a_question_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least one message of the user"):
        prompt(CHATML, assistant("Hello"))


def test_a_base_model_continues_a_page_of_questions_and_answers() -> None:
    template = ChatTemplate("", "<s>", "</s>")
    found = template.prompt((system("Facts."), user("A?"), assistant("B."), user("C?")))
    assert found.text == "Facts.\n\nQuestion: A?\nAnswer: B.\n\nQuestion: C?\nAnswer:"
    assert found.lstrip
    assert "\nQuestion:" in found.stops
    assert template.prompt((user("C?"), assistant("The"))).text == "Question: C?\nAnswer: The"


def test_a_template_that_is_no_template_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not a valid Jinja template"):
        ChatTemplate("{% for %}", "", "")


def test_a_template_that_raises_refuses_the_conversation_with_its_words() -> None:
    with pytest.raises(InvalidRequest, match="refuses this conversation: roles must alternate"):
        prompt("{{ raise_exception('roles must alternate') }}", user("Hi"))


@pytest.mark.parametrize(
    "source",
    [
        "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
        "{% for a in range(9999) %}{% for b in range(9999) %}{{ 'x' * 99999 }}{% endfor %}{% endfor %}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ ().__class__.__base__.__subclasses__() }}",
    ],
)
def test_a_hostile_template_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llamacpp_jinja, "RENDER_TIMEOUT_S", 0.2)
    with pytest.raises(InvalidRequest, match="refuses this conversation"):
        prompt(source, user("Hi"))


def test_the_tags_and_filters_that_models_use_are_there() -> None:
    source = (
        "{% generation %}{{ {'a': 'é<'} | tojson }}{% endgeneration %}"
        "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{% endfor %}{{ strftime_now('%Y') }}"
    )
    assert prompt(source, user("Hi")).startswith('{"a": "é<"}')


QWEN = (
    "{% if tools %}<|im_start|>system\n<tools>{% for tool in tools %}\n{{ tool | tojson(ensure_ascii=False) }}"
    "{% endfor %}\n</tools> answer with <tool_call><|im_end|>\n{% endif %}{% for m in messages %}"
    "{% if m.role == 'tool' %}<tool_response>{{ m.content }}</tool_response>{% else %}<|im_start|>{{ m.role }}\n"
    "{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }} "
    "{{ call.function.arguments | tojson }}</tool_call>{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ADD = Tool("add", "Add numbers", {"type": "object", "properties": {"a": {"type": "integer"}}})
CALLED = (user("1 + 2?"), Message("assistant", (ToolCall("c1", "add", '{"a": 1}'),)))
RESULT = Message("tool", (ToolResult("c1", "it is 3"),))


def test_a_template_that_knows_tools_is_given_them_calls_and_results() -> None:
    text = ChatTemplate(QWEN, "", "").prompt((*CALLED, RESULT), (ADD,)).text
    assert '"name": "add"' in text
    assert '<tool_call>add {"a": 1}</tool_call>' in text
    assert "<tool_response>it is 3</tool_response>" in text
    assert text.endswith("<|im_start|>assistant\n")


@pytest.mark.parametrize("source", [CHATML, NO_SYSTEM, DROPS_SYSTEM, NEVER_OPENS, ""])
def test_a_template_that_knows_no_tools_hears_of_them_in_words(source: str) -> None:
    text = ChatTemplate(source, "<s>", "</s>").prompt((*CALLED, RESULT), (ADD,)).text
    for said in ('"description": "Add numbers"', '{"name": "add", "arguments": {"a": 1}}', "it is 3", "<tool_call>"):
        assert said in text
    assert text.index("Add numbers") < text.index("1 + 2?") < text.index("it is 3")


def test_a_template_whose_calls_cannot_be_read_hears_of_tools_in_words_too() -> None:
    source = CHATML.replace("{% for", "{% if tools %}{{ tools }} call them by !!name{% endif %}{% for", 1)
    text = prompt_with_tools(source)
    assert "call them by !!name" not in text
    assert "<tool_call>" in text


def test_a_template_that_cannot_hear_that_there_are_no_tools_is_told_nothing() -> None:
    source = "{% for tool in tools %}{{ tool }}{% endfor %}<tool_call>" + CHATML
    assert "Hi" in ChatTemplate(source, "", "").prompt((user("Hi"),)).text
    assert "Add numbers" in prompt_with_tools(source)


def test_results_in_a_users_message_are_turns_of_their_own() -> None:
    turns = read_turns((*CALLED, Message("user", (ToolResult("c1", "3"), Text("And 2 + 2?")))))
    assert [(turn.role, turn.content, turn.name) for turn in turns[2:]] == [
        ("tool", "3", "add"),
        ("user", "And 2 + 2?", ""),
    ]


def prompt_with_tools(source: str) -> str:
    return ChatTemplate(source, "", "").prompt((user("Hi"),), (ADD,)).text
