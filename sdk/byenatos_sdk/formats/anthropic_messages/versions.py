"""The API's versions, and what each lets a request say.

2023-06-01 takes sampling parameters and documents in the assistant's turns; 2026-10-21 refuses both, and takes
instructions in the middle of a conversation, right behind a turn of the user's. A request that names its version
(``extra["anthropic_version"]``, the header of a client) goes out in that one; any other in the newest that can say it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from byenatos_sdk.formats.anthropic_messages.shapes import NAME, NEW_VERSION, OLD_VERSION
from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.matrix import MATRIX
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import File, InferenceRequest, Message, Sampling

__all__ = ["CAPABILITIES", "SAMPLING", "capabilities_for", "check_sampling", "version_for"]

CAPABILITIES = MATRIX[NAME]
"""What the first version can say; ``capabilities_for`` narrows it to a request's version."""
SAMPLING = ("temperature", "top_p", "top_k")
"""Parameters that the second version refuses, even at their default values."""


def version_for(request: InferenceRequest, extra: Mapping[str, Any]) -> str:
    """Return the version that ``request`` goes out in."""
    named = extra.get("anthropic_version")
    if isinstance(named, str) and named:
        return named
    sampled = any(getattr(request.sampling, name) is not None for name in SAMPLING)
    return OLD_VERSION if sampled or _has_answered_files(request.messages) else NEW_VERSION


def _has_answered_files(messages: Sequence[Message]) -> bool:
    return any(isinstance(part, File) for one in messages if one.role == "assistant" for part in one.parts)


def capabilities_for(
    request: InferenceRequest, version: str, of_model: Capabilities | None, *, named: bool
) -> Capabilities:
    """Return what can be said to a model (``None``: to any) in ``version``; ``named``: the request asks for it.

    Raises:
        InvalidRequest: the request holds what this version refuses.
    """
    found = CAPABILITIES if of_model is None else of_model
    if version < NEW_VERSION:
        return found
    if _has_answered_files(request.messages):
        raise InvalidRequest(
            f"messages: API version {version} takes documents in the user's turns only; leave them out of the "
            f"assistant's, or name version {OLD_VERSION}"
        )
    parameters = {name: limit for name, limit in found.parameters.items() if name not in SAMPLING}
    found = replace(found, parameters=parameters)
    if named and of_model is None and _follows_user(request.messages):
        found = replace(found, system="anywhere")
    return found


def _follows_user(messages: Sequence[Message]) -> bool:
    """Say whether every instruction in the middle stands right behind a turn of the user's."""
    leading = next((at for at, one in enumerate(messages) if one.role != "system"), len(messages))
    before = ""
    for message in messages[leading:]:
        if message.role == "system" and before == "assistant":
            return False
        before = before if message.role == "system" else message.role
    return True


def check_sampling(sampling: Sampling, version: str) -> None:
    """Refuse what a client may not send in ``version``.

    Raises:
        InvalidRequest: it sent one of ``SAMPLING`` in the second version.
    """
    if version >= NEW_VERSION:
        for name in SAMPLING:
            if getattr(sampling, name) is not None:
                raise InvalidRequest(
                    f"{name}: Extra inputs are not permitted: API version {version} has no sampling parameters; leave "
                    f"it out, or ask in version {OLD_VERSION}"
                )
