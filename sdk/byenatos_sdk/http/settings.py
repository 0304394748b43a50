"""What an operator may set for a driver that speaks to a vendor over HTTP."""

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from byenatos_sdk.formats.capabilities import Capabilities
from byenatos_sdk.formats.matrix import PARAMETERS
from byenatos_sdk.protocol.errors import InvalidRequest
from byenatos_sdk.protocol.messages import Value

__all__ = ["HTTPSettings", "capabilities_of", "settings_of"]

_Seconds = Annotated[float, Meta(gt=0)]


class HTTPSettings(Value, frozen=True, forbid_unknown_fields=True):
    """``[settings]`` of the manifest, under those of the model and of ``model_config``.

    ``model``: the vendor's name for the model, its id if empty. ``api``: the name of the format to speak, the
    driver's first if empty. ``headers``: further ones, never a key (the broker puts that in). ``stream``: ask for the
    answer in pieces. ``attempts``: how often a request is sent in all, before the first word of the answer came. Times
    in seconds: ``connect_s`` for a connection to the broker, ``first_s`` until the first word, ``gap_s`` between two,
    ``most_wait_s`` how long a vendor may ask to wait before it is asked again.
    ``without``: sampling parameters that this model does not take. ``capabilities``: fields of ``Capabilities`` that
    differ for this model. ``emulate_tools``: where those say that it knows no tools, tell it of them in words.
    ``extra``: parameters of the vendor's own for every request that has none of that name. ``refresh_models``: when the
    driver's first instance is ready, the kernel asks for the vendor's list and makes its models loadable.
    """

    base_url: str = ""
    model: str = ""
    api: str = ""
    headers: dict[str, str] = {}
    stream: bool = True
    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    connect_s: _Seconds = 10.0
    first_s: _Seconds = 300.0
    gap_s: _Seconds = 120.0
    most_wait_s: Annotated[float, Meta(ge=0)] = 20.0
    without: tuple[str, ...] = ()
    capabilities: dict[str, Any] = {}
    emulate_tools: bool = False
    extra: dict[str, Any] = {}
    refresh_models: bool = False


def settings_of(table: dict[str, Any], kind: type[HTTPSettings]) -> HTTPSettings:
    """Read a driver's settings.

    Raises:
        InvalidRequest: a key or a value is wrong; it is named.
    """
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        known = ", ".join(kind.__struct_fields__)
        raise InvalidRequest(f"settings: {error}; expected some of {known}") from None


def capabilities_of(own: Capabilities, settings: HTTPSettings) -> Capabilities:
    """Return what the model can do: ``own`` are its format's.

    Raises:
        InvalidRequest: ``capabilities`` or ``without`` name what there is not.
    """
    table = {name: getattr(own, name) for name in own.__struct_fields__ if name != "parameters"}
    if unknown := settings.capabilities.keys() - table.keys():
        raise InvalidRequest(f"settings: capabilities: expected some of {', '.join(table)}, found {unknown.pop()!r}")
    if unknown := set(settings.without) - set(PARAMETERS):
        raise InvalidRequest(f"settings: without: expected some of {', '.join(PARAMETERS)}, found {unknown.pop()!r}")
    parameters = {name: limit for name, limit in own.parameters.items() if name not in settings.without}
    if settings.emulate_tools:
        table["worded_tools"] = True
    try:
        found = msgspec.convert({**table, **settings.capabilities, "parameters": parameters}, Capabilities)
        re.compile(found.tool_name)
    except (msgspec.ValidationError, re.error) as error:
        raise InvalidRequest(f"settings: capabilities: {error}") from None
    return found
