"""What happens to a request between the kernel and the driver: the operator's defaults, and answers that have begun.

After a swap or a failover an answer goes on at another instance. The text that it already has becomes a trailing
message of the assistant, which is where a client puts the beginning of an answer too, so that a driver looks in one
place (``request.partial``). A driver that can only answer, not continue, gets a turn that asks for the rest; what it
repeats of the answer then is dropped (``overlap.py``).
"""

from typing import Any

from msgspec.structs import replace

from byenatos_sdk.protocol.control import LoadOrder
from byenatos_sdk.protocol.messages import InferenceRequest, Message, Part, Text, assistant, user

__all__ = ["CONTINUE", "asked_to_continue", "complete"]

CONTINUE = (
    "Your answer was cut off. Continue it exactly where it stopped, in the middle of a word if need be. "
    "Do not repeat anything of it, do not explain and do not apologise: write only what comes next."
)
"""The turn that asks a model for the rest of its answer."""

_ASKING = user(CONTINUE)


def complete(request: InferenceRequest, partial: str, order: LoadOrder, *, continues: bool) -> InferenceRequest:
    """Return the request as the driver is to see it.

    ``partial`` is the text that the answer already has; ``continues`` says whether the driver continues a trailing
    message of the assistant or has to be asked.
    """
    messages = request.messages
    if partial:
        messages = _extended(messages, partial)
    if not continues and messages and messages[-1].role == "assistant":
        messages = (*messages, _ASKING)
    if messages is not request.messages or request.continued:
        request = replace(request, messages=messages, continued=len(partial) if continues else 0)
    if order.strict and not request.strict:
        request = replace(request, strict=True)
    sampling = request.sampling
    defaults: dict[str, Any] = {}
    if sampling.max_tokens is None and order.max_tokens is not None:
        defaults["max_tokens"] = order.max_tokens
    if sampling.temperature is None and order.temperature is not None:
        defaults["temperature"] = order.temperature
    return replace(request, sampling=replace(sampling, **defaults)) if defaults else request


def asked_to_continue(request: InferenceRequest) -> str:
    """Return the text that the driver is asked by a turn to go on with; empty if it is not."""
    return request.messages[-2].text if request.messages and request.messages[-1] is _ASKING else ""


def _extended(messages: tuple[Message, ...], partial: str) -> tuple[Message, ...]:
    if not messages or messages[-1].role != "assistant":
        return (*messages, assistant(partial))
    *parts, last = messages[-1].parts or (Text(""),)
    more: tuple[Part, ...] = (Text(last.text + partial),) if isinstance(last, Text) else (last, Text(partial))
    return (*messages[:-1], Message("assistant", (*parts, *more)))
