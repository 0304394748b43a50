"""The characters that no text of somebody else may bring to a terminal as they are, written as in a pattern's class."""

__all__ = ["CONTROL", "ORDER"]

CONTROL = r"\x00-\x08\x0b-\x1f\x7f-\x9f"
"""They move or clear something; tab and newline do not."""

ORDER = r"\u202a-\u202e\u2066-\u2069"
"""They have words read in another order than they have."""
