"""Suitability: what a target cannot take over is named before anything is touched, and nothing else is."""

import asyncio

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from byenatos_kernel.suitability import IMAGE_TOKENS, estimated_tokens
from byenatos_kernel.swap_policy import SwapPolicy, SwapRules
from byenatos_sdk.protocol.control import KeepOrder
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.frames import Reply, encode
from byenatos_sdk.protocol.messages import (
    Failure,
    Image,
    InferenceRequest,
    Message,
    ReasoningDelta,
    SwapRequest,
    SwapState,
    Text,
    TokenCount,
    Tool,
    ToolCall,
    ToolResult,
    user,
)

PICTURE = Message("user", (Text("what is this?"), Image(data=b"\x89PNG")))
CALL = Message("assistant", (ToolCall("1", "look"),))
SEEN = Message("tool", (ToolResult("1", "the sky", images=(Image(url="https://example.org/sky.png"),)),))
TEXT_ONLY = {"b": 'features = ["chat_template"]'}


async def converse(kernel, session, *messages, slot="main"):
    await kernel.sessions.keep(KeepOrder(session, slot, messages, b""), "uid:0")


async def refused(kernel, *names, **request):
    """The swap is refused by all of these names, and nothing was touched."""
    made = len(kernel.drivers_made)
    with pytest.raises(InvalidRequest) as error:
        await kernel.swaps.swap(SwapRequest("main", "b", **request))
    assert [name for name in names if name not in error.value.message] == []
    assert len(kernel.drivers_made) == made
    assert kernel.routes.slots["main"].model == "a"
    assert kernel.routes.slots["main"].swap is None
    return error.value.message


async def accepted(kernel, **request):
    event = await kernel.swaps.swap(SwapRequest("main", "b", **request))
    assert kernel.routes.slots["main"].model == "b"
    return event


async def test_a_conversation_with_images_keeps_a_model_out_that_takes_none(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        await converse(kernel, "pictures", PICTURE)
        await converse(kernel, "words", user("hello"))
        message = await refused(kernel, "session 'pictures' has images, and b takes none", "--force")
        assert "words" not in message


async def test_images_in_what_a_tool_answered_count_and_so_does_its_call(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        await converse(kernel, "looking", user("look"), CALL, SEEN)
        await refused(kernel, "session 'looking' has images, and b takes none and uses tools, and b has none")


async def test_words_that_look_like_parts_in_the_store_are_only_words(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        await converse(kernel, "words", user("a Blåimage, an image, a ©tool_call and a «tool_result"))
        await accepted(kernel)


@pytest.mark.parametrize("features", ['["images", "tools"]', "[]", '["continue"]'])
async def test_a_model_that_can_or_that_says_nothing_is_let_in(rig, features):
    async with rig(declared={"b": f"features = {features}"}) as kernel:
        await kernel.settle()
        await converse(kernel, "looking", user("look"), CALL, SEEN, PICTURE)
        await accepted(kernel)


async def test_what_was_said_long_ago_or_in_another_slot_does_not_count(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        await converse(kernel, "elsewhere", PICTURE, slot="side")
        await converse(kernel, "old", PICTURE)
        kernel.policy = SwapPolicy(SwapRules(keep_old_s=0.0, live_session_s=0.0))
        await accepted(kernel)


async def test_a_conversation_is_counted_in_the_tokens_of_the_model_that_holds_it(rig):
    async with rig(declared={"b": "context_length = 100"}) as kernel:
        await kernel.settle()
        await converse(kernel, "long", user("word " * 60))
        source = kernel.driver("a")
        for count, fits in ((100, False), (99, True)):
            swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b")))
            await kernel.settle()
            ((number, method, body),) = source.calls
            assert method == "count_tokens"
            assert msgspec.msgpack.decode(body, type=InferenceRequest).messages == (user("word " * 60),)
            source.calls.clear()
            source.tell(number, Reply(encode(TokenCount(count))))
            if fits:
                assert (await swap).state is not SwapState.FAILED
            else:
                with pytest.raises(InvalidRequest, match="session 'long' has 100 tokens, and b takes 100"):
                    await swap


async def test_where_nobody_counts_tokens_they_are_estimated_and_that_is_said(rig):
    async with rig(declared={"b": "context_length = 100"}) as kernel:
        await kernel.settle()
        await converse(kernel, "long", user("word " * 100))
        await converse(kernel, "shorter", user("word " * 60))
        swap = asyncio.create_task(kernel.swaps.swap(SwapRequest("main", "b")))
        await kernel.settle()
        source = kernel.driver("a")
        ((number, *_),) = source.calls
        source.tell(number, Failure("unsupported", "it counts no tokens"))
        with pytest.raises(InvalidRequest, match="session 'long' has about 133 tokens, and b takes 100") as error:
            await swap
        assert "shorter" not in error.value.message
        assert len(source.calls) == 1


async def test_a_short_conversation_is_let_in_without_being_counted(rig):
    async with rig(declared={"b": "context_length = 1000"}) as kernel:
        await kernel.settle()
        await converse(kernel, "short", user("word " * 60))
        await accepted(kernel)
        assert kernel.driver("b").calls == []


def asking_for_tools(**more):
    return encode(InferenceRequest((user("look"),), tools=(Tool("look"),), **more))


async def test_a_running_answer_with_tools_counts_where_it_will_move(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        number = kernel.open("main", body=asking_for_tools())
        await kernel.settle()
        await refused(kernel, "running request 1 uses tools, and b has none", strategy="immediate")
        assert kernel.terminal(number) is None
        await accepted(kernel, strategy="graceful")


async def test_an_answer_that_has_only_thought_so_far_will_move_and_counts(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        kernel.open("main", body=asking_for_tools())
        await kernel.settle()
        driver = kernel.driver("a")
        (here,) = driver.streams
        driver.tell(here, ReasoningDelta("hm"))
        await kernel.settle()
        await refused(kernel, "running request 1 uses tools, and b has none", strategy="immediate")


async def test_the_running_turn_of_a_conversation_counts_wherever_it_ends(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        kernel.open("main", session="s", body=asking_for_tools())
        await kernel.settle()
        await refused(kernel, "session 's' uses tools, and b has none", strategy="graceful")


async def test_a_forced_swap_goes_on_and_says_what_it_cuts_off(rig):
    async with rig(declared=TEXT_ONLY) as kernel:
        await kernel.settle()
        for number in range(7):
            await converse(kernel, f"pictures {number}", PICTURE)
        message = await refused(kernel)
        assert message.count("has images") == 5
        assert "and 2 more" in message
        event = await accepted(kernel, force=True, until="retired")
        assert event.state is SwapState.RETIRED
        assert event.detail.startswith("forced, cutting off: session 'pictures 6' has images")
        assert (await kernel.swaps.history())[0].detail == event.detail


async def test_a_model_that_is_loaded_anew_need_not_suit_more_than_before(rig):
    async with rig(declared={"a": 'features = ["chat_template"]'}) as kernel:
        await kernel.settle()
        await converse(kernel, "pictures", PICTURE)
        await kernel.swaps.swap(SwapRequest("main", "a"))


@given(st.lists(st.text(max_size=200), max_size=5), st.integers(0, 3))
def test_an_estimate_grows_with_text_and_images_and_is_below_one_token_a_byte(texts, images):
    messages = tuple(user(text) for text in texts)
    plain = estimated_tokens(messages)
    assert plain <= len(encode(messages)) + 8 * len(messages)
    pictures = Message("user", (Image(url="x"),) * images)
    assert estimated_tokens((*messages, pictures)) >= plain + images * IMAGE_TOKENS
