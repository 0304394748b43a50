"""What a client of OpenAI's keeps with an answer or a conversation: pairs of short texts."""

from byenatos_sdk.formats.fields import Fields
from byenatos_sdk.protocol.errors import InvalidRequest

__all__ = ["read_metadata"]

_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512


def read_metadata(fields: Fields) -> dict[str, str]:
    """Return the pairs.

    Raises:
        InvalidRequest: they are too many or too long, or no texts.
    """
    found = fields.mapping("metadata") or {}
    if len(found) > _MOST_PAIRS:
        raise InvalidRequest(f"metadata: expected at most {_MOST_PAIRS} pairs, found {len(found)}")
    for key, value in found.items():
        if len(key) > _LONGEST_KEY:
            raise InvalidRequest(f"metadata: expected names of at most {_LONGEST_KEY} characters, found {len(key)}")
        if not isinstance(value, str) or len(value) > _LONGEST_VALUE:
            kind = f"one of {len(value)}" if isinstance(value, str) else type(value).__name__
            raise InvalidRequest(
                f"metadata.{key}: expected a text of at most {_LONGEST_VALUE} characters, found {kind}"
            )
    return found
