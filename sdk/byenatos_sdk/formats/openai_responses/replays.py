"""The stream of an answer that is whole: the events with which it would have come, each text in one piece.

It has numbers of its own, always the same ones for one answer: who lost it in the middle goes on behind the last that
came.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from byenatos_sdk.formats.sse import event
from byenatos_sdk.formats.wire import json_body
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["encode_replay"]

_Event = tuple[str, dict[str, Any]]
_CALLS = {
    "function_call": ("arguments", "function_call_arguments"),
    "custom_tool_call": ("input", "custom_tool_call_input"),
}
"""The field of a call that is streamed, and what its events are called."""


def encode_replay(answer: Mapping[str, Any], after: int = -1) -> bytes:
    """Write the stream of ``answer``, an object of this API, from behind the event of the number ``after``.

    Raises:
        InvalidRequest: nothing comes behind that.
    """
    events = list(_events(answer))
    if after >= len(events) - 1:
        raise InvalidRequest(f"starting_after: expected less than {len(events) - 1}, the last event, found {after}")
    return b"".join(
        event(json_body({"type": kind} | body | {"sequence_number": number}), kind)
        for number, (kind, body) in enumerate(events)
        if number > after
    )


def _events(answer: Mapping[str, Any]) -> Iterator[_Event]:
    begun = {**answer, "status": "in_progress", "incomplete_details": None, "output": [], "usage": None}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for at, item in enumerate(answer["output"]):
        yield from _item(item, at)
    yield f"response.{answer['status']}", {"response": answer}


def _item(item: dict[str, Any], at: int) -> Iterator[_Event]:
    place = {"item_id": item["id"], "output_index": at}
    match item["type"]:
        case "message":
            begun = item | {"status": "in_progress", "content": []}
            pieces = [one for index, part in enumerate(item["content"]) for one in _part(part, place, index)]
        case "reasoning":
            begun = item | {"summary": []}
            begun.pop("encrypted_content", None)
            pieces = [one for index, part in enumerate(item["summary"]) for one in _thought(part, place, index)]
        case kind:
            field, named = _CALLS[kind]
            begun = item | ({field: "", "status": "in_progress"} if "status" in item else {field: ""})
            name = {"name": item["name"]} if kind == "function_call" else {}
            pieces = [
                (f"response.{named}.delta", place | {"delta": item[field]}),
                (f"response.{named}.done", place | name | {field: item[field]}),
            ]
    yield "response.output_item.added", {"output_index": at, "item": begun}
    yield from pieces
    yield "response.output_item.done", {"output_index": at, "item": item}


def _part(part: dict[str, Any], place: dict[str, Any], index: int) -> Iterator[_Event]:
    place = place | {"content_index": index}
    if part["type"] == "refusal":
        text, empty, said = part["refusal"], part | {"refusal": ""}, {"refusal": part["refusal"]}
        more: dict[str, Any] = {}
    else:
        text, empty = part["text"], part | {"text": "", "logprobs": []}
        more = {"logprobs": part["logprobs"]}
        said = {"text": text} | more
    yield "response.content_part.added", place | {"part": empty}
    if text:
        yield f"response.{part['type']}.delta", place | {"delta": text} | more
    yield f"response.{part['type']}.done", place | said
    yield "response.content_part.done", place | {"part": part}


def _thought(part: dict[str, Any], place: dict[str, Any], index: int) -> Iterator[_Event]:
    place = place | {"summary_index": index}
    yield "response.reasoning_summary_part.added", place | {"part": part | {"text": ""}}
    yield "response.reasoning_summary_text.delta", place | {"delta": part["text"]}
    yield "response.reasoning_summary_text.done", place | {"text": part["text"]}
    yield "response.reasoning_summary_part.done", place | {"part": part}
