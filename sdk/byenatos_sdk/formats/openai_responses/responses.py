"""Whole answers of the Responses API: items, a status, and parameters of the request said again."""

from typing import Any

from byenatos_sdk.formats.fragments import arguments_text, invented_id
from byenatos_sdk.formats.openai_chat.errors import error_object, found_error, read_body
from byenatos_sdk.formats.openai_chat.logprobs import read_logprobs, write_logprobs
from byenatos_sdk.formats.openai_chat.profile import OPENAI
from byenatos_sdk.formats.openai_chat.tools import custom_input, custom_names
from byenatos_sdk.formats.openai_chat.usage import count
from byenatos_sdk.formats.openai_responses.items import NAME, reasoning_text
from byenatos_sdk.formats.openai_responses.requests import request_body
from byenatos_sdk.formats.wire import Reply, WireResponse, json_body
from byenatos_sdk.protocol.errors import UpstreamFailed
from byenatos_sdk.protocol.messages import (
    FinishReason,
    InferenceResponse,
    Message,
    Part,
    Reasoning,
    Text,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)

__all__ = [
    "call_item",
    "decode_response",
    "encode_response",
    "ending",
    "item_id",
    "message_item",
    "read_usage",
    "reasoning_item",
    "response_object",
    "status_of",
    "token_objects",
]

_INCOMPLETE: dict[str, tuple[FinishReason, str]] = {
    "max_output_tokens": ("length", ""),
    "max_tokens": ("length", ""),
    "content_filter": ("content_filter", ""),
    "max_prompt_tokens": ("length", "context_length"),
}


def read_usage(usage: Any) -> Usage:
    """Read counts; what is not said is not known."""
    if not isinstance(usage, dict):
        return Usage(None, None)
    read, written = usage.get("input_tokens_details"), usage.get("output_tokens_details")
    read, written = read if isinstance(read, dict) else {}, written if isinstance(written, dict) else {}
    return Usage(
        count(usage.get("input_tokens")),
        count(usage.get("output_tokens")),
        count(read.get("cached_tokens")) or 0,
        count(read.get("cache_write_tokens")) or 0,
        count(written.get("reasoning_tokens")) or 0,
    )


def ending(body: dict[str, Any], *, called: bool, refused: bool) -> tuple[FinishReason, str]:
    """Return why an answer ended: its status says it, and what is in it."""
    if body.get("status") == "incomplete":
        details = body.get("incomplete_details")
        word = details.get("reason") if isinstance(details, dict) else None
        if not isinstance(word, str):
            return "length", ""
        return _INCOMPLETE.get(word, ("stop", word))
    if refused:
        return "content_filter", "refusal"
    return ("tool_calls" if called else "stop"), ""


def _contents(item: dict[str, Any]) -> list[dict[str, Any]]:
    found = item.get("content")
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []


def _parts(output: list[Any]) -> tuple[list[Part], tuple[TokenLogprob, ...], bool]:
    """Return an output's parts, its log probabilities, and whether it is a refusal."""
    parts: list[Part] = []
    logprobs: list[TokenLogprob] = []
    refused = False
    calls = 0
    for item in output:
        if not isinstance(item, dict):
            continue
        match item.get("type"):
            case "message":
                for part in _contents(item):
                    text = part.get("text")
                    if part.get("type") == "refusal":
                        refused, text = True, part.get("refusal")
                    if isinstance(text, str) and text:
                        parts.append(Text(text))
                    logprobs += read_logprobs({"content": part.get("logprobs")})
            case "function_call" | "custom_tool_call":
                parts.append(read_item_call(item, calls))
                calls += 1
            case "reasoning":
                thought, signature = reasoning_text(item), item.get("encrypted_content")
                signed = isinstance(signature, str)
                if thought or signed:
                    source = NAME if signed else ""
                    redacted = signed and not thought
                    parts.append(Reasoning(thought, signature if signed else None, source, redacted))
    return parts, tuple(logprobs), refused


def read_item_call(item: dict[str, Any], position: int) -> ToolCall:
    """Read a call; what is missing is invented or empty."""
    name = item.get("name") if isinstance(item.get("name"), str) else ""
    call_id = item.get("call_id") or item.get("id")
    arguments = item.get("arguments")
    if item.get("type") == "custom_tool_call":
        arguments = {"input": item.get("input")}
    return ToolCall(
        call_id if isinstance(call_id, str) else invented_id(position, str(name)), str(name), arguments_text(arguments)
    )


def decode_response(wire: WireResponse) -> InferenceResponse:
    """Read a whole answer.

    Raises:
        ByenatosError: the body is an error (whatever its status), or no answer at all.
    """
    body = read_body(OPENAI, wire)
    output = body.get("output") if isinstance(body, dict) else None
    if not isinstance(body, dict) or body.get("error") or not isinstance(output, list):
        raise found_error(OPENAI, wire, body)
    if body.get("status") not in ("completed", "incomplete", None):  # any JSON may stand there, and not all has a hash
        raise UpstreamFailed(f"answer: expected a completed one, found the status {body.get('status')!r}")
    parts, logprobs, refused = _parts(output)
    called = any(isinstance(part, ToolCall) for part in parts)
    reason, detail = ending(body, called=called, refused=refused)
    model = body.get("model")
    return InferenceResponse(
        Message("assistant", tuple(parts)),
        reason,
        read_usage(body.get("usage")),
        model if isinstance(model, str) else "",
        detail=detail,
        logprobs=logprobs,
    )


# ---- writing ---------------------------------------------------------------------------------------------------


def item_id(reply: Reply, kind: str, index: int) -> str:
    """Return the id of an answer's item."""
    return f"{kind}_{reply.id.removeprefix('resp_')}_{index}"


def token_objects(tokens: tuple[TokenLogprob, ...]) -> list[dict[str, Any]]:
    """Write log probabilities."""
    content: list[dict[str, Any]] = write_logprobs(tokens)["content"]
    return content


def message_item(
    id: str, text: str, *, refused: bool = False, status: str = "completed", logprobs: tuple[TokenLogprob, ...] = ()
) -> dict[str, Any]:
    """Write a text as an item."""
    part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": [], "logprobs": token_objects(logprobs)}
    if refused:
        part = {"type": "refusal", "refusal": text}
    return {"id": id, "type": "message", "role": "assistant", "status": status, "content": [part]}


def call_item(id: str, call: ToolCall | ToolCallDelta, *, custom: bool) -> dict[str, Any]:
    """Write a call as an item; ``custom``: to a tool of free text."""
    if custom:
        text = custom_input(call.arguments)
        return {"id": id, "type": "custom_tool_call", "call_id": call.id, "name": call.name, "input": text}
    return {
        "id": id,
        "type": "function_call",
        "status": "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": call.arguments,
    }


def reasoning_item(id: str, text: str, signature: str | None) -> dict[str, Any]:
    """Write reasoning as an item."""
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: dict[str, Any] = {"id": id, "type": "reasoning", "summary": summary}
    return item if signature is None else item | {"encrypted_content": signature}


def status_of(reason: FinishReason, detail: str) -> tuple[str, dict[str, str] | None]:
    """Return the status for an end, and what is missing if the answer is not whole."""
    if reason == "length":
        return "incomplete", {"reason": "max_output_tokens"}
    if reason == "content_filter" and detail != "refusal":
        return "incomplete", {"reason": "content_filter"}
    return "completed", None


def _usage(usage: Usage) -> dict[str, Any] | None:
    read, written = usage.input_tokens, usage.output_tokens
    if read is None and written is None:
        return None
    return {
        "input_tokens": read,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": None if read is None or written is None else read + written,
    }


def response_object(reply: Reply) -> dict[str, Any]:
    """Write a response that has not begun: what was asked, said again, and nothing in it."""
    asked = {} if reply.asked is None else request_body(reply.asked.request)
    return {
        "id": reply.id,
        "object": "response",
        "created_at": reply.created,
        "status": "in_progress",
        "background": False,
        **({"conversation": asked["conversation"]} if "conversation" in asked else {}),
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "max_output_tokens": asked.get("max_output_tokens"),
        "metadata": asked.get("metadata", {}),
        "model": reply.model,
        "output": [],
        "parallel_tool_calls": reply.asked is None or reply.asked.request.parallel_tool_calls is not False,
        "previous_response_id": asked.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None} | asked.get("reasoning", {}),
        "store": asked.get("store", False),
        "temperature": asked.get("temperature"),
        "text": {"format": {"type": "text"}} | asked.get("text", {}),
        "tool_choice": asked.get("tool_choice", "auto"),
        "tools": asked.get("tools", []),
        "top_p": asked.get("top_p"),
        "truncation": asked.get("truncation", "disabled"),
        "usage": None,
    }


def ended(
    reply: Reply,
    output: list[dict[str, Any]],
    end: tuple[FinishReason, str],
    usage: Usage,
) -> dict[str, Any]:
    """Write a response that has ended as ``end`` says."""
    status, missing = status_of(*end)
    return response_object(reply) | {
        "status": status,
        "incomplete_details": missing,
        "output": output,
        "usage": _usage(usage),
    }


def failed_object(reply: Reply, output: list[dict[str, Any]], code: str, message: str) -> dict[str, Any]:
    """Write a response that an error ended."""
    said = error_object(code, message)
    error = {"code": said["code"] or said["type"], "message": message}
    return response_object(reply) | {"status": "failed", "output": output, "error": error}


def encode_response(response: InferenceResponse, reply: Reply) -> WireResponse:
    """Write a whole answer."""
    output: list[dict[str, Any]] = []
    refused = response.detail == "refusal"
    waiting = response.logprobs
    parts = response.message.parts
    if refused and not any(isinstance(part, Text) for part in parts):
        parts = (*parts, Text(""))
    whole, _ = status_of(response.reason, response.detail)
    for part in parts:
        at = len(output)
        if isinstance(part, Text):
            name = item_id(reply, "msg", at)
            output.append(message_item(name, part.text, refused=refused, status=whole, logprobs=waiting))
            waiting = ()
        elif isinstance(part, Reasoning):
            signature = part.signature if part.source in {"", NAME} else None
            output.append(reasoning_item(item_id(reply, "rs", at), part.text, signature))
        elif isinstance(part, ToolCall):
            output.append(call_item(item_id(reply, "fc", at), part, custom=part.name in custom_names(reply)))
    body = ended(reply, output, (response.reason, response.detail), response.usage)
    return WireResponse(json_body(body), headers={"content-type": "application/json"})
