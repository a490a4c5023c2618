"""JSON shape: how deep a body is nested and how many values it has, found without parsing it.

A parser, and the validation after it, work in proportion to the values: the bytes of a long text
cost next to nothing. Linear, with no Python step per byte: the bytes are untrusted.
"""

import asyncio
import codecs
import re
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from registry.errors import BodyNotText, BodyTooDeep, BodyTooManyValues

MAX_LEVELS = 100
MAX_VALUES = 2**18
MEMBER_VALUES = 16
"""A member of an object counts as so many: a route's validation takes longer for it."""

_SLICE_BYTES = 2**20
_LARGE_BYTES = 2**18  # a longer body is checked in a thread
_QUOTE, _COMMA, _COLON = b'",:'
_QUOTE_SIGN = b'"'
_SLASH = ord("\\")
_HIGH_ALONE = re.compile(rb"\\u[dD][89abAB]..(?!\\u[dD][c-fC-F])", re.DOTALL)
_LOW_ALONE = re.compile(rb"\\u[dD][c-fC-F]..(?<!\\u[dD][89abAB]..\\u[dD][c-fC-F]..)", re.DOTALL)
_PAIR_BYTES = 12
_MOST_QUOTES = 2**12
_MOST_ESCAPED_QUOTES = 2**14
_OTHER_BYTES = bytes(set(range(256)) - set(b'"[]{},:'))
_STEPS = np.zeros(256, np.int32)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


async def check_json(content: bytes, max_values: int = MAX_VALUES, *, is_utf8: bool = True) -> None:
    """Raises BodyTooDeep, BodyTooManyValues and, with `is_utf8`, BodyNotText."""
    if len(content) <= _LARGE_BYTES:
        _check(content, max_values, is_utf8)
    else:
        await asyncio.to_thread(_check, content, max_values, is_utf8)


def _check(content: bytes, max_values: int, is_utf8: bool) -> None:
    frame = content if len(content) <= _LARGE_BYTES else leave_out_texts(content)
    if is_too_deep(frame):
        raise BodyTooDeep(MAX_LEVELS)
    if has_more_values(frame, max_values):
        raise BodyTooManyValues(max_values)
    if is_utf8:
        try:
            if b"\0" in content or has_half_character(content):  # Python's parser reads UTF-16
                raise BodyNotText
            if len(content) <= _SLICE_BYTES:
                content.decode()
                return
            decoder = codecs.getincrementaldecoder("utf-8")()
            for begin in range(0, len(content), _SLICE_BYTES):
                decoder.decode(content[begin : begin + _SLICE_BYTES])
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:  # vLLM's error would not have the route's format
            raise BodyNotText from None


def has_half_character(content: bytes) -> bool:
    """Whether a `\\ud83d` in it lacks its other half: Python's parser takes it, no encoder does.

    In slices, between which other threads get their turns.
    """
    if b"\\ud" not in content and b"\\uD" not in content:
        return False
    escapes = b"".join(_without_slashes(content))
    for begin in range(0, len(escapes), _SLICE_BYTES):
        end = begin + _SLICE_BYTES
        for alone in (_HIGH_ALONE, _LOW_ALONE):
            found = alone.search(escapes, begin, end + _PAIR_BYTES)
            if found is not None and found.start() < end:
                return True
    return False


def _without_slashes(content: bytes) -> Iterator[bytes]:
    """A dot in place of each escaped backslash: those that are left begin another escape."""
    begin = 0
    while begin < len(content):
        end = _end_of_slice(content, begin)
        yield content[begin:end].replace(rb"\\", b".")
        begin = end


def leave_out_texts(content: bytes) -> bytes:
    """What is outside of its strings, if these are few; from where they are many on, all of it.

    One long text costs no more than a search for its end, ten times less than a look at its signs.
    """
    if b"\0" in content:
        return content
    outside, begin, first = [], 0, content.find(_QUOTE_SIGN)
    for _ in range(_MOST_QUOTES):
        if first < 0:
            break
        end = _find_end(content, first)
        if end is None:
            break
        outside.append(content[begin:first])
        begin = end + 1
        first = content.find(_QUOTE_SIGN, begin)
    outside.append(content[begin:])
    return b"".join(outside)


def _find_end(content: bytes, first: int) -> int | None:
    """Of the string whose quote is there; None if it has none, or very many escaped quotes."""
    last = first
    for _ in range(_MOST_ESCAPED_QUOTES):
        end = content.find(_QUOTE_SIGN, last + 1)
        if end < 0:
            return None
        if content[end - 1] != _SLASH:
            return end
        before = content[last + 1 : end]
        if (len(before) - len(before.rstrip(b"\\"))) % 2 == 0:
            return end
        last = end
    return None


def is_too_deep(content: bytes, max_levels: int = MAX_LEVELS) -> bool:
    """Whether it is nested too deeply."""
    if content.count(b"[") + content.count(b"{") <= max_levels:
        return False
    if b"\0" in content:  # never in UTF-8 JSON; in UTF-16 brackets can't be told apart
        return True
    level = 0
    for signs, outside in _slices(content):
        levels = np.cumsum(np.where(outside, _STEPS[signs], 0), dtype=np.int32) + level
        if int(levels.max()) > max_levels:
            return True
        level = int(levels[-1])
    return False


def has_more_values(content: bytes, max_values: int) -> bool:
    """Whether its arrays and objects hold more than that, by their commas and colons."""
    if content.count(b",") + (MEMBER_VALUES - 1) * content.count(b":") < max_values:
        return False
    if b"\0" in content:
        return True
    values = 0
    for signs, outside in _slices(content):
        values += int(np.count_nonzero(outside & (signs == _COMMA)))
        values += (MEMBER_VALUES - 1) * int(np.count_nonzero(outside & (signs == _COLON)))
        if values >= max_values:
            return True
    return False


def _slices(content: bytes) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]]:
    """The signs that make the shape, and which of them are outside of strings."""
    in_text, begin = 0, 0
    while begin < len(content):
        end = _end_of_slice(content, begin)
        piece = content[begin:end].replace(rb"\\", b"").replace(rb"\"", b"")
        signs = np.frombuffer(piece.translate(None, _OTHER_BYTES), np.uint8)
        begin = end
        if not len(signs):
            continue
        quotes = np.cumsum(signs == _QUOTE, dtype=np.uint8) + np.uint8(in_text)
        in_text = int(quotes[-1]) & 1
        yield signs, (quotes & 1) == 0


def _end_of_slice(content: bytes, begin: int) -> int:
    """Not within an escape: backslashes before it are in pairs."""
    end = min(begin + _SLICE_BYTES, len(content))
    piece = content[begin:end]
    slashes = len(piece) - len(piece.rstrip(b"\\"))
    return min(end + slashes % 2, len(content))
