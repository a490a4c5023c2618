"""Grammar bounds: limits of `structured_outputs`, checked before anything is compiled.

vLLM compiles a grammar in a thread of the engine, without a limit and without a way to end it: a
regex of 28 characters takes minutes. Its cost follows the size that it has with its repetitions
written out, which is found here without compiling. A caller may also begin only so many that are
new; a grammar that was admitted before is in the engine's cache.

One that accepts no text is refused too: vLLM finds that out while it generates.
"""

import asyncio
import hashlib
import json
import math
import re
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from engine.errors import GrammarLimit, GrammarTooComplex, GrammarUnsatisfiable
from engine.types import GrammarLimits
from registry.http.json_shape import is_too_deep

_REPEAT = re.compile(r"\{\s*(\d{0,9})\s*(?:(,)\s*(\d{0,9})\s*)?\}")
_LENGTHS = ("maxLength", "minLength", "maxProperties", "minProperties")
_ITEMS = ("maxItems", "minItems")
_REFERRING = ("allOf", "anyOf", "oneOf")
_MAX_REFERENCES = 64  # from one to the next, with nothing between
_WINDOW_SECONDS = 60.0
_MAX_KNOWN = 4096
_MAX_CALLERS = 10_000


class GrammarGate:
    """Admits the grammars of requests. `caller` says whose the running request is.

    `accepts_nothing` parses a grammar, given the fields of vLLM's parameters; it runs in a thread.
    """

    def __init__(
        self,
        limits: GrammarLimits,
        caller: Callable[[], Hashable],
        accepts_nothing: Callable[[Mapping[str, Any]], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits = limits
        self._caller = caller
        self._accepts_nothing = accepts_nothing
        self._clock = clock
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._parsing: dict[bytes, asyncio.Future[bool]] = {}
        self._begun: OrderedDict[Hashable, deque[float]] = OrderedDict()

    async def admit(self, wanted: Any) -> None:
        """`wanted`: vLLM's parameters.

        Raises GrammarTooComplex, GrammarLimit, GrammarUnsatisfiable.
        """
        parts = {name: getattr(wanted, name, None) for name in _FIELDS}
        for part in parts.values():  # before they are copied
            self._check_bytes(len(part) if isinstance(part, str) else 0)
        self._check_choices(parts["choice"] or ())
        text = _text_of(parts)
        self._check_bytes(len(text))
        digest = hashlib.sha256(text).digest()
        if digest in self._known:
            self._known.move_to_end(digest)
            return
        if (parsing := self._parsing.get(digest)) is None:
            parsing = self._begin(digest, parts)
        if await asyncio.shield(parsing):  # others may wait for it: each prompt of one request
            raise GrammarUnsatisfiable("it accepts no text")
        self._known[digest] = None
        if len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)

    def _begin(self, digest: bytes, parts: Mapping[str, Any]) -> "asyncio.Future[bool]":
        """Raises GrammarTooComplex, GrammarLimit."""
        try:
            self._check(parts)
        except RecursionError:
            raise GrammarTooComplex("it is nested too deeply") from None
        self._count()
        parsing = asyncio.ensure_future(asyncio.to_thread(self._accepts_nothing, parts))
        self._parsing[digest] = parsing
        parsing.add_done_callback(lambda _: self._parsing.pop(digest))
        return parsing

    def _check_bytes(self, count: int) -> None:
        if count > self._limits.max_bytes:
            raise GrammarTooComplex(f"it has {count} bytes of at most {self._limits.max_bytes}")

    def _check_choices(self, choices: Sequence[str]) -> None:
        if len(choices) > self._limits.max_choices:
            raise GrammarTooComplex(
                f"it has {len(choices)} choices of at most {self._limits.max_choices}"
            )

    def _check(self, parts: Mapping[str, Any]) -> None:
        size = expanded_size(parts["regex"] or "") + expanded_size(parts["grammar"] or "")
        for name in ("json", "structural_tag"):
            schema = parts[name]
            if isinstance(schema, str):
                if is_too_deep(schema.encode("utf-8", "surrogatepass")):  # one in the body isn't
                    raise GrammarTooComplex("it is nested too deeply")
                try:
                    schema = json.loads(schema)
                except (ValueError, RecursionError):
                    continue  # vLLM says what is wrong
            if schema:
                _check_references(schema)
                size += schema_size(schema)
        if size > self._limits.max_size:
            raise GrammarTooComplex(
                "with its repetitions written out (`{m,n}`, `maxLength`, `maxItems`) it is larger "
                f"than {self._limits.max_size}"
            )

    def _count(self) -> None:
        caller, now = self._caller(), self._clock()
        begun = self._begun.setdefault(caller, deque())
        self._begun.move_to_end(caller)
        if len(self._begun) > _MAX_CALLERS:
            self._begun.popitem(last=False)
        while begun and begun[0] <= now - _WINDOW_SECONDS:
            begun.popleft()
        if len(begun) >= self._limits.new_per_minute:
            wait = math.ceil(begun[0] + _WINDOW_SECONDS - now)
            raise GrammarLimit(
                f"{self._limits.new_per_minute} new grammars may be compiled in a minute, and were",
                retry_after_seconds=max(wait, 1),
            )
        begun.append(now)


_FIELDS = ("json", "regex", "choice", "grammar", "structural_tag", "whitespace_pattern")


def _text_of(parts: Mapping[str, Any]) -> bytes:
    try:
        return json.dumps([*parts.values()], default=str).encode("utf-8", "surrogatepass")
    except (RecursionError, ValueError):
        raise GrammarTooComplex("it is nested too deeply") from None


def expanded_size(pattern: str) -> int:
    """About how large a regex or EBNF is with its repetitions written out; 0 without any."""
    if "{" not in pattern:
        return 0
    sizes, last, at = [0], 0, 0
    while at < len(pattern):
        sign = pattern[at]
        repeat = _REPEAT.match(pattern, at) if sign == "{" else None
        if repeat is not None:
            sizes[-1] += last * max(_times(repeat) - 1, 0)
            last *= max(_times(repeat), 1)
            at = repeat.end()
            continue
        if sign == "(":
            sizes.append(0)
        elif sign == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif sign == "[":
            at = _end_of_class(pattern, at)
            last = 1
            sizes[-1] += 1
        elif sign not in "*+?|":
            at += sign == "\\"
            last = 1
            sizes[-1] += 1
        at += 1
    return sum(sizes) if _REPEAT.search(pattern) else 0


def _times(repeat: "re.Match[str]") -> int:
    least, _, most = repeat.groups()
    return int(most or least or 0)


def _end_of_class(pattern: str, at: int) -> int:
    at += 1
    while at < len(pattern) and pattern[at] != "]":
        at += 1 + (pattern[at] == "\\")
    return at


def schema_size(schema: Any) -> int:
    """About how large a JSON schema is with its repetitions written out; 0 without any."""
    if isinstance(schema, list):
        return sum(map(schema_size, schema))
    if not isinstance(schema, dict):
        return 0
    inner = sum(map(schema_size, schema.values()))
    lengths = [schema[name] for name in _LENGTHS if _is_count(schema.get(name))]
    items = [schema[name] for name in _ITEMS if _is_count(schema.get(name))]
    pattern = schema.get("pattern")
    own = max(lengths, default=0) + (expanded_size(pattern) if isinstance(pattern, str) else 0)
    return own + (max(items) * max(inner, 1) if items else inner)


def _is_count(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_references(schema: Any) -> None:
    """A `$ref` that leads back to itself and to nothing else means nothing."""
    checked: set[str] = set()
    remaining = [schema]
    while remaining:
        node = remaining.pop()
        if isinstance(node, dict):
            remaining.extend(node.values())
            if "$ref" in node:
                _follow(node, schema, (), checked)
        elif isinstance(node, list):
            remaining.extend(node)


def _follow(node: Any, root: Any, passed: tuple[str, ...], checked: set[str]) -> None:
    if not isinstance(node, dict):
        return
    target = node.get("$ref")
    if isinstance(target, str) and target not in checked:
        if target in passed or len(passed) >= _MAX_REFERENCES:
            raise GrammarTooComplex(f"its `$ref` {target[:100]!r} leads back to itself")
        _follow(_find(target, root), root, (*passed, target), checked)
        checked.add(target)
    for name in _REFERRING:
        members = node.get(name)
        for member in members if isinstance(members, list) else ():
            _follow(member, root, passed, checked)


def _find(target: str, root: Any) -> Any:
    """What a JSON pointer within the schema names; None if that is nothing."""
    node = root
    if not target.startswith("#"):
        return None
    for part in target[1:].split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(node, list) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        else:
            node = node.get(key) if isinstance(node, dict) else None
    return node
