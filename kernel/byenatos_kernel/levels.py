"""At which level a conversation gets from one instance to another, the best that the pair allows.

``kv`` needs a way for warm state (``moves.Moves.route``), and is tried first. Without one the target reads the text;
where both cut text into tokens alike, that is ``tokens``: what it reads is what the old one had.
"""

from byenatos_kernel.instances import Instance
from byenatos_sdk.protocol.messages import SessionLevel

__all__ = ["reading_level"]


def reading_level(source: Instance | None, target: Instance | None) -> SessionLevel:
    """The level at which ``target`` reads what was said at ``source``."""
    ours = source.specification if source is not None else None
    theirs = target.specification if target is not None else None
    same = ours is not None and theirs is not None and ours.tokenizer and ours.tokenizer == theirs.tokenizer
    return "tokens" if same else "text"
