"""How deep JSON is, without reading it."""

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.http.body_limit import is_too_deep

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


def test_utf_16_can_hide_nothing() -> None:
    hidden = json.dumps({"\u0122": [[[[1]]]]}, ensure_ascii=False).encode("utf-16-le")
    assert is_too_deep(hidden, 3)


MEMORY = """
import resource, sys
from registry.http.body_limit import is_too_deep
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
many, deep = 2**25, b"[" * 200
for content in (b"[" * many, b"[]" * (many // 2), b'"' * many + deep, b"\\\\" * many + deep):
    before = peak()
    print(is_too_deep(content), (peak() - before) // 2**20)
"""


def test_it_costs_little_whatever_comes() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    assert [line[0] for line in lines] == ["True", "False", "True", "True"]
    assert all(int(line[1]) < 160 for line in lines), lines
