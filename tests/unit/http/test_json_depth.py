"""How deep JSON is, without reading it."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import BodyNotText, BodyTooManyValues
from registry.http.json_shape import (
    MEMBER_VALUES,
    check_json,
    has_more_values,
    is_too_deep,
    leave_out_texts,
)

texts = st.text() | st.sampled_from(["[[[[", '"', "\\", '\\"[', "{{{{{{", "é[", "\0["])
documents = st.recursive(
    st.none() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=20,
)


def levels_of(value: Any) -> int:
    inner = (
        value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    )
    return 0 if inner is None else 1 + max(map(levels_of, inner), default=0)


@given(documents, st.integers(0, 8), st.booleans())
def test_it_counts_as_a_parser_does(document: Any, levels: int, ascii_: bool) -> None:
    content = json.dumps(document, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    assert is_too_deep(content, levels) == (levels_of(document) > levels)


@pytest.mark.parametrize("size", [2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
def test_it_counts_across_its_pieces(size: int) -> None:
    flat = b"[" + b"[]," * (size // 3) + b"[]" + b"]"
    assert not is_too_deep(flat, 2)
    assert is_too_deep(flat, 1)
    in_text = b'["' + b"[" * size + b'"]'
    assert not is_too_deep(in_text, 1)


def members_of(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    own = (MEMBER_VALUES - 1) * len(value) if isinstance(value, dict) else 0
    return own + max(len(inner) - 1, 0) + sum(map(members_of, inner))


@given(documents, st.integers(1, 8))
def test_it_counts_values_as_a_parser_does(document: Any, most: int) -> None:
    content = json.dumps(document).encode()
    assert has_more_values(content, most) == (members_of(document) >= most)


@given(documents, st.integers(0, 8), st.integers(1, 8), st.integers(0, 3), st.booleans())
def test_without_its_texts_it_counts_as_with_them(
    document: Any, levels: int, values: int, most: int, ascii_: bool
) -> None:
    content = json.dumps(document, ensure_ascii=ascii_).encode("utf-8", "surrogatepass")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("registry.http.json_shape._MOST_QUOTES", most)
        patch.setattr("registry.http.json_shape._MOST_ESCAPED_QUOTES", max(most - 1, 1))
        frame = leave_out_texts(content)
    assert is_too_deep(frame, levels) == is_too_deep(content, levels)
    assert has_more_values(frame, values) == has_more_values(content, values)


def test_a_long_text_costs_a_search_for_its_end() -> None:
    content = json.dumps({"prompt": "The quick brown fox, and more. " * 300_000}).encode()
    assert leave_out_texts(content) == b"{: }"
    assert leave_out_texts(rb'["a\\", "b\"]", "open') == b'[, , "open'


def test_commas_of_a_text_are_no_values() -> None:
    for text in (",", '\\",', "\\\\,", "," * 2**20 + '"' + "\\" * 7):
        assert not has_more_values(json.dumps([text * 3]).encode(), 1)


async def test_a_body_of_too_many_values_is_refused_before_it_is_parsed() -> None:
    ids = json.dumps({"prompt": [7] * 400_000}).encode()
    with pytest.raises(BodyTooManyValues):
        await check_json(ids)
    await check_json(ids, 500_000)
    members = json.dumps({"logit_bias": dict.fromkeys(range(40_000), "x")}).encode()
    with pytest.raises(BodyTooManyValues):
        await check_json(members)
    await check_json(json.dumps({"prompt": "a, " * 2**21}).encode())
    with pytest.raises(BodyNotText):
        await check_json(b'"' + b"a" * 2**21 + b"\xff" + b'"')


def test_utf_16_can_hide_nothing() -> None:
    hidden = json.dumps({"\u0122": [[[[1]]]]}, ensure_ascii=False).encode("utf-16-le")
    assert is_too_deep(hidden, 3)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le"])
async def test_utf_16_hides_neither_values_nor_half_characters(encoding: str) -> None:
    """Python's parser reads it, and so would a route."""
    many = '{"\\"": [%s 1]}' % ("1," * 400)
    assert json.loads(many.encode(encoding)) == json.loads(many)
    assert has_more_values(many.encode(encoding), 100)
    for text in (r'"\ud83d"', '"\udc80"', '"good"'):
        content = text.encode(encoding, "surrogatepass")
        assert json.loads(content) == json.loads(text)
        with pytest.raises(BodyNotText):
            await check_json(content)


MEMORY = """
import resource, sys
from registry.http.json_shape import has_more_values, is_too_deep
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
many, deep = 2**25, b"[" * 200
lists = b"[" * many, b"[]" * (many // 2)
for content in (*lists, b'"' * many + deep, b"\\\\" * many + deep, b"," * many):
    before = peak()
    found = is_too_deep(content)
    has_more_values(content, 1)
    print(found, (peak() - before) // 2**20)
"""


def test_it_costs_little_whatever_comes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["True", "False", "True", "True", "False"]
    assert all(int(line[1]) < 160 for line in lines), lines


@pytest.mark.parametrize(
    "text",
    [
        *(rb"\ud800", rb"\udc00", rb"\uD83D\ud83d", rb"\ud83dx", rb"\ud83d\\udc00"),
        *(rb"\ud83d\\\udc00", rb"\\\ud800", rb"\ud83d\ude00\ude00"),
    ],
)
@pytest.mark.parametrize("before", [0, 2**20 - 3, 2**20 + 2**19])
async def test_half_a_character_is_no_text(text: bytes, before: int) -> None:
    """Python's parser takes it, and nothing after it can encode it."""
    content = b'"' + b"a" * before + text + b'"'
    json.loads(content)
    with pytest.raises(BodyNotText):
        await check_json(content)


@pytest.mark.parametrize("before", [0, *range(2**20 - 14, 2**20 + 1)])
async def test_whole_characters_are_text_wherever_they_are(before: int) -> None:
    written = [rb"\ud83d\ude00", rb"\\ud800", rb"\u00e9\n\"", rb"\uD83D\uDE00", b"\\\\"]
    await check_json(b'"' + b"a" * before + b"".join(written) + b'"')
