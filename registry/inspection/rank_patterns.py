"""Rank patterns (`rank_pattern`, `alpha_pattern`): untrusted regular expressions, with limits.

A key matches modules whose names end with it after a dot; the first matching key applies, as in
PEFT's `get_pattern_key` (0.21) and in vLLM's `PEFTHelper` (0.32), which also matches with `regex`.
"""

import re
import time
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import regex

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect

MAX_KEYS = 1000  # vLLM recompiles them for each module
MAX_KEY_LENGTH = 512
MAX_CPU_SECONDS = 2.0  # for all keys and modules; a key for each of 560 modules takes half a second

# What `re` and `regex` interpret alike: no counted repeats, no groups with a question mark, which
# `regex` uses for fuzzy and recursive patterns, and no nested sets.
_PLAIN = re.compile(r"(?!.*(?:\(\?|\[\^?\[|--|\|\|))[\w.\\*+?|()\[\]^$-]+")

Value = TypeVar("Value")


def resolve(
    field: str, pattern: Mapping[str, Value], modules: Iterable[str], default: Value
) -> dict[str, Value]:
    """The value of each module. Raises InvalidAdapter: `pattern_invalid`."""
    if len(pattern) > MAX_KEYS:
        raise InvalidAdapter(Defect.PATTERN_INVALID, f"{field} has over {MAX_KEYS} keys")
    keys = [(_compile(field, key), value) for key, value in pattern.items()]
    deadline = time.thread_time() + MAX_CPU_SECONDS
    try:
        return {module: _first(keys, module, default, deadline) for module in modules}
    except TimeoutError:
        raise InvalidAdapter(
            Defect.PATTERN_INVALID, f"{field} takes over {MAX_CPU_SECONDS} s to match"
        ) from None


def _first(keys: list[tuple[Any, Value]], module: str, default: Value, deadline: float) -> Value:
    for key, value in keys:
        if key.match(module, timeout=max(deadline - time.thread_time(), 1e-3)):
            return value
    if time.thread_time() > deadline:
        raise TimeoutError
    return default


def _compile(field: str, key: str) -> Any:
    if len(key) > MAX_KEY_LENGTH or not _PLAIN.fullmatch(key):
        raise _invalid(field, key)
    try:
        re.compile(key)
        return regex.compile(rf"(.*\.)?({key})$")
    except (re.error, regex.error, RecursionError, OverflowError):
        raise _invalid(field, key) from None


def _invalid(field: str, key: str) -> InvalidAdapter:
    shown = repr(key if len(key) <= 80 else f"{key[:80]}…")
    return InvalidAdapter(
        Defect.PATTERN_INVALID, f"{field}: {shown} is no simple regular expression"
    )
