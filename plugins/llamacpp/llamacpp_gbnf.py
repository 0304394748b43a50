"""Check a GBNF grammar before llama.cpp reads it, to say what is wrong with it and where.

llama.cpp's parser prints its complaint to stderr, and recurses as deep as the groups are nested. So a grammar is read
here first, within bounds; what llama.cpp refuses beyond that (left recursion, too many repetitions) it says in its log.

So it is, too, if it leaves too much open at once (``llamacpp_ambiguity``).

Format: https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md
"""

import re

from byenatos_sdk.protocol.errors import InvalidRequest
from llamacpp_ambiguity import ENDLESS, Alternatives, Item, check_ambiguity

__all__ = ["check_gbnf"]

MAX_GRAMMAR = 256 << 10
MAX_NESTING = 100
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:\s|#[^\r\n]*)*")
_NAME = re.compile(r"[a-zA-Z0-9-]+")
_ESCAPE = r'\\(?:[\\"nrt\[\]]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})'
_LITERAL = re.compile(rf'"(?:[^"\\]|{_ESCAPE})*"')
_CLASS = re.compile(rf"\[\^?(?:[^\]\\]|{_ESCAPE})*\]")
_TOKEN = re.compile(r"!?<(?:\[[0-9]+\]|[^>]+)>")
_REPEAT = re.compile(r"[*+?]|\{[ \t]*[0-9]+[ \t]*(?:,[ \t]*[0-9]*[ \t]*)?\}")

_TIMES = {"*": (0, ENDLESS), "+": (1, ENDLESS), "?": (0, 1)}


def check_gbnf(text: str, where: str) -> None:
    """Refuse what is no grammar with a rule ``root``.

    Raises:
        InvalidRequest: with the line, what was expected and what was found; ``where`` names the grammar.
    """
    if len(text) > MAX_GRAMMAR:
        raise InvalidRequest(f"{where}: expected a grammar of at most {MAX_GRAMMAR} characters, found {len(text)}")
    if "\0" in text:
        raise InvalidRequest(f"{where}: expected a grammar without NUL characters")
    check_ambiguity(_Reader(text, where).read(), where)


class _Reader:
    def __init__(self, text: str, where: str) -> None:
        self._text = text
        self._where = where
        self._at = 0

    def read(self) -> dict[str, Alternatives]:
        defined: dict[str, Alternatives] = {}
        used: dict[str, int] = {}
        self._take(_BLANK_LINES)
        while self._at < len(self._text):
            rule = self._take(_NAME) or self._fail("the name of a rule")
            self._take(_BLANK)
            if not self._text.startswith("::=", self._at):
                self._fail("'::=' after the name of a rule")
            self._at += 3
            self._take(_BLANK_LINES)
            defined[rule] = self._read_body(used)
        if "root" not in defined:
            raise InvalidRequest(f"{self._where}: expected a rule 'root', found {len(defined)} others")
        for name, at in used.items():
            if name not in defined:
                self._at = at
                self._fail(f"every rule that is used to be defined, found no rule {name!r}", found=False)
        return defined

    def _read_body(self, used: dict[str, int]) -> Alternatives:
        """Read alternatives up to the end of the rule's line."""
        open_: list[Alternatives] = [[[]]]  # the rule, and the groups that are open in it
        repeatable = False
        while True:
            start = self._at
            character = self._text[start : start + 1]
            here = open_[-1][-1]
            if self._take(_LITERAL) or self._take(_CLASS) or self._take(_TOKEN) or character == ".":
                self._at += character == "."
                here.append(Item([[]] if self._text[start : self._at] == '""' else None))
                repeatable = True
            elif name := self._take(_NAME):
                used.setdefault(name, start)
                here.append(Item(name))
                repeatable = True
            elif character == "(":
                open_.append([[]])
                repeatable = False
                self._at += 1
                if len(open_) > MAX_NESTING + 1:
                    self._fail(f"groups nested at most {MAX_NESTING} deep")
            elif character == ")" and len(open_) > 1:
                group = open_.pop()
                open_[-1][-1].append(Item(group))
                repeatable = True
                self._at += 1
            elif character == "|":
                open_[-1].append([])
                self._at += 1
                self._take(_BLANK_LINES)
                repeatable = False
                continue
            elif repeatable and (times := self._take(_REPEAT)):
                here.append(_repeated(here.pop(), times))
            elif len(open_) == 1 and (not character or character in "\r\n"):
                self._take(_BLANK_LINES)
                return open_[0]
            else:
                self._fail("')'" if not character else "a literal, a class, a rule's name, a group or a repetition")
            self._take(_BLANK_LINES if len(open_) > 1 else _BLANK)

    def _take(self, what: re.Pattern[str]) -> str:
        found = what.match(self._text, self._at)
        if found is None:
            return ""
        self._at = found.end()
        return found.group()

    def _fail(self, expected: str, *, found: bool = True) -> str:
        line = self._text.count("\n", 0, self._at) + 1
        rest = self._text[self._at : self._at + 20].split("\n")[0]
        what = f", found {rest!r}" if found and rest else ", found the end of the line" if found else ""
        raise InvalidRequest(f"{self._where}: line {line}: expected {expected}{what}")


def _repeated(item: Item, times: str) -> Item:
    if times in _TIMES:
        least, most = _TIMES[times]
    else:
        first, comma, last = times[1:-1].partition(",")
        least = min(int(first), ENDLESS)
        most = min(int(last), ENDLESS) if last.strip() else ENDLESS if comma else least
    return Item(item.what, min(item.least * least, ENDLESS), min(item.most * most, ENDLESS))
