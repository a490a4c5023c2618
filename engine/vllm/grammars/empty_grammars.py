"""Empty grammars: those of `structured_outputs` that accept no text, found before they generate.

vLLM finds that out at the first token, and answers with 500. Here the grammar is parsed as vLLM
would, and its rules are followed: a text is accepted if a way through them ends.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import xgrammar
from vllm.v1.structured_output.utils import compile_regex_with_timeout, grammar_is_likely_lark

_ROOT = "root"
_LAST_CHARACTER = 0x10FFFF
_TOKENS = re.compile(
    r'(?P<text>"(?:[^"\\]|\\.)*")'
    r"|(?P<characters>\[(?:[^\]\\]|\\.)*\])"
    r"|(?P<rule>^[^\s()]+ ::=)"
    r"|(?P<function>[\w.-]+\()"
    r"|(?P<ahead>\(=)"
    r"|(?P<name>[A-Za-z_][\w.-]*)"
    r"|\{\s*(?P<times>\d+)[^}]*\}"
    r"|(?P<sign>[()|*?])",
    re.MULTILINE,
)
_RULES = re.compile(r"^([^\s()]+) ::=", re.MULTILINE)
_CHARACTER = re.compile(
    r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|\\(.)|(.)", re.DOTALL
)
_ESCAPED = {"0": 0, "a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, "e": 27}


def accepts_nothing(wanted: Mapping[str, Any]) -> bool:
    """`wanted`: the fields of vLLM's parameters. False also where xgrammar can't parse it."""
    try:
        grammar = _parse(wanted)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False  # vLLM says what is wrong, or takes another backend; older ones read no Lark
    return grammar is not None and not is_productive(str(grammar))


def is_blamed_for_errors(params: Any, config: Any) -> bool:
    """Whether an error that ends the request in the engine is its grammar's: it has one, and waits
    for nothing that another engine computes.
    """
    if getattr(params, "structured_outputs", None) is None:
        return False
    transfers = ("kv_transfer_config", "ec_transfer_config")
    return all(getattr(config, name, None) is None for name in transfers)


def _parse(wanted: Mapping[str, Any]) -> "xgrammar.Grammar | None":
    """None where it accepts a text in any case: without rules that refer to each other."""
    if (regex := wanted.get("regex")) and "[^" in regex:
        parsed: xgrammar.Grammar = compile_regex_with_timeout(xgrammar.Grammar.from_regex, regex)
        return parsed
    if schema := wanted.get("json"):
        text = schema if isinstance(schema, str) else json.dumps(schema)
        return xgrammar.Grammar.from_json_schema(text) if '"$' in text or "[^" in text else None
    if grammar := wanted.get("grammar"):
        is_lark = grammar_is_likely_lark(grammar)
        return (xgrammar.Grammar.from_lark if is_lark else xgrammar.Grammar.from_ebnf)(grammar)
    if (tag := wanted.get("structural_tag")) and "structures" not in (read := json.loads(tag)):
        return xgrammar.Grammar.from_structural_tag(read)
    return None


class _Ways:
    """Ways through a grammar: each ends if all parts do that it needs; a part by one of its ways.

    A part is a rule's name, or the number of a group in brackets.
    """

    def __init__(self) -> None:
        self._missing: list[int] = []
        self._part: list[str | int] = []
        self._needed_by: defaultdict[str | int, list[int]] = defaultdict(list)

    def add(self, part: str | int, needs: set[str | int]) -> None:
        for need in needs:
            self._needed_by[need].append(len(self._part))
        self._missing.append(len(needs))
        self._part.append(part)

    def ending(self) -> set[str | int]:
        """The parts that a text ends."""
        ended: set[str | int] = set()
        remaining = [way for way, missing in enumerate(self._missing) if not missing]
        while remaining:
            part = self._part[remaining.pop()]
            if part in ended:
                continue
            ended.add(part)
            for way in self._needed_by[part]:
                self._missing[way] -= 1
                if not self._missing[way]:
                    remaining.append(way)
        return ended


class _Reader:
    """Reads the rules of a grammar, token by token, into ways through it."""

    def __init__(self, rules: frozenset[str]) -> None:
        self.ways = _Ways()
        self._rules = rules
        self._open: list[tuple[str | int, set[str | int]]] = []
        self._last: str | int | None = None  # what the way needs only because of the last token

    def begin_rule(self, name: str) -> None:
        self.end_rule()
        self._open = [(name, set())]

    def end_rule(self) -> None:
        while self._open:
            self.ways.add(*self._open.pop())

    def open_group(self, number: int, is_needed: bool) -> None:
        if is_needed:
            self._open[-1][1].add(number)
        self._open.append((number, set()))

    def close_group(self) -> None:
        part, needs = self._open.pop()
        self.ways.add(part, needs)
        self._last = part

    def begin_way(self) -> None:
        part, needs = self._open[-1]
        self.ways.add(part, needs)
        self._open[-1] = (part, set())

    def read(self, number: int, kind: str, text: str) -> None:
        """A token within a rule."""
        last, self._last = self._last, None
        if text == "|":
            self.begin_way()
        elif text == "(" or kind in ("function", "ahead"):
            self.open_group(number, is_needed=text == "(")
        elif text == ")" and len(self._open) > 1:
            self.close_group()
        elif text in ("*", "?") or (text == "0" and kind == "times"):
            self._open[-1][1].discard(last or "")
        elif (kind == "name" and text in self._rules) or _is_empty_class(kind, text):
            need: str | int = text if kind == "name" else number
            is_new = need not in self._open[-1][1]
            self._open[-1][1].add(need)
            self._last = need if is_new else None


def is_productive(grammar: str) -> bool:
    """Whether any text is accepted. `grammar`: EBNF as xgrammar writes it."""
    rules = frozenset(found.group(1) for found in _RULES.finditer(grammar))
    reader = _Reader(rules)
    for number, (kind, text) in enumerate(_tokens(grammar)):
        if kind == "rule":
            reader.begin_rule(text.removesuffix(" ::="))
        else:
            reader.read(number, kind, text)
    reader.end_rule()
    return _ROOT not in rules or _ROOT in reader.ways.ending()


def _tokens(grammar: str) -> Iterator[tuple[str, str]]:
    for found in _TOKENS.finditer(grammar):
        kind = str(found.lastgroup)
        yield kind, found[kind]


def _is_empty_class(kind: str, text: str) -> bool:
    """Whether it excludes every character."""
    if kind != "characters" or not text.startswith("[^"):
        return False
    ranges, at, codes = [], 0, list(_codes(text[2:-1]))
    while at < len(codes):
        is_range = at + 2 < len(codes) and codes[at + 1] == (ord("-"), False)
        ranges.append((codes[at][0], codes[at + 2 if is_range else at][0]))
        at += 3 if is_range else 1
    after = 0
    for least, most in sorted(ranges):
        if least > after:
            return False
        after = max(after, most + 1)
    return after > _LAST_CHARACTER


def _codes(text: str) -> Iterator[tuple[int, bool]]:
    """Each character's code, and whether it was escaped."""
    for found in _CHARACTER.finditer(text):
        *codes, escaped, plain = found.groups()
        code = next((each for each in codes if each), None)
        if code is not None:
            yield int(code, 16), True
        elif escaped is not None:
            yield _ESCAPED.get(escaped, ord(escaped)), True
        else:
            yield ord(plain), False
