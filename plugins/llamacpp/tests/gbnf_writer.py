"""Write a random text of a GBNF grammar: what the grammar allows, by this reading of the format."""

import random
import re
from typing import Any

TOKEN = re.compile(
    r'\s+|#[^\n]*|(?P<name>[a-zA-Z0-9-]+)|"(?P<literal>(?:[^"\\]|\\.)*)"|\[(?P<set>(?:[^\]\\]|\\.)*)\]'
    r"|(?P<repeat>[*+?]|\{\d+(?:,\d*)?\})|(?P<sign>[()|.])"
)
ESCAPE = re.compile(r"\\(?:x(..)|u(....)|U(........)|(.))", re.DOTALL)
SIMPLE = {"n": "\n", "r": "\r", "t": "\t"}
MORE = 2
DEEP = 60


def unescape(text: str) -> list[str]:
    """Return the characters of a literal or a class."""
    found, at = [], 0
    while at < len(text):
        match = ESCAPE.match(text, at)
        if match is None:
            found.append(text[at])
            at += 1
            continue
        code = match[1] or match[2] or match[3]
        found.append(chr(int(code, 16)) if code else SIMPLE.get(match[4], match[4]))
        at = match.end()
    return found


class Writer:
    """Picks one alternative after the other; deep inside, the shortest way out."""

    def __init__(self, grammar: str, chance: random.Random) -> None:
        self.rules: dict[str, Any] = {}
        for line in grammar.splitlines():
            name, _, body = line.partition("::=")
            self.rules[name.strip()] = self.parse(body)
        self.chance = chance
        self.least: dict[str, int] = {}
        for _ in range(len(self.rules) + 1):
            self.least = {name: self.cost(rule) for name, rule in self.rules.items()}

    def parse(self, body: str) -> Any:
        stack: list[list[list[Any]]] = [[[]]]
        at = 0
        while at < len(body):
            match = TOKEN.match(body, at)
            assert match is not None, body[at : at + 40]
            at = match.end()
            sequence = stack[-1][-1]
            if match["name"]:
                sequence.append(("rule", match["name"]))
            elif match["literal"] is not None:
                sequence.append(("text", "".join(unescape(match["literal"]))))
            elif match["set"] is not None:
                sequence.append(("set", match["set"]))
            elif match["repeat"]:
                sign = match["repeat"]
                low, high = {"*": (0, MORE), "+": (1, MORE), "?": (0, 1)}.get(sign, (0, 0))
                if sign.startswith("{"):
                    first, comma, last = sign[1:-1].partition(",")
                    low = int(first)
                    high = int(last) if last else low + MORE if comma else low
                sequence.append(("repeat", sequence.pop(), low, high))
            elif match["sign"] == "(":
                stack.append([[]])
            elif match["sign"] == "|":
                stack[-1].append([])
            elif match["sign"] == ")":
                group = stack.pop()
                stack[-1][-1].append(("any", group))
            elif match["sign"] == ".":
                sequence.append(("set", "^"))
        assert len(stack) == 1
        return ("any", stack[0])

    def cost(self, node: Any) -> int:
        """How deep the shortest text of ``node`` goes."""
        match node:
            case ("rule", name):
                return 1 + self.least.get(name, 1 << 20)
            case ("any", group):
                return min(max((self.cost(one) for one in sequence), default=0) for sequence in group)
            case ("repeat", inner, low, _):
                return self.cost(inner) if low else 0
        return 0

    def write(self, node: Any, depth: int = 0) -> str:
        match node:
            case ("rule", name):
                return self.write(self.rules[name], depth + 1)
            case ("text", text):
                return str(text)
            case ("set", text):
                return self.pick(text)
            case ("any", group):
                if depth > DEEP:
                    sequence = min(group, key=lambda one: max((self.cost(part) for part in one), default=0))
                else:
                    sequence = self.chance.choice(group)
                return "".join(self.write(part, depth) for part in sequence)
            case ("repeat", inner, low, high):
                count = low if depth > DEEP // 3 else self.chance.randint(low, min(high, low + MORE))
                return "".join(self.write(inner, depth) for _ in range(count))
        raise AssertionError(node)

    def pick(self, text: str) -> str:
        negated, characters = text.startswith("^"), unescape(text.removeprefix("^"))
        ranges = []
        at = 0
        while at < len(characters):
            if at + 2 < len(characters) and characters[at + 1] == "-":
                ranges.append((ord(characters[at]), ord(characters[at + 2])))
                at += 3
            else:
                ranges.append((ord(characters[at]),) * 2)
                at += 1
        if negated:
            while True:
                code = self.chance.choice([self.chance.randint(0x20, 0x7E), self.chance.randint(0xA1, 0x2000)])
                if not any(low <= code <= high for low, high in ranges):
                    return chr(code)
        low, high = self.chance.choice(ranges)
        return chr(self.chance.choice([low, high, self.chance.randint(low, high)]))


def write(grammar: str, chance: random.Random) -> str:
    """Return a text that ``grammar`` allows."""
    writer = Writer(grammar, chance)
    return writer.write(("rule", "root"))
