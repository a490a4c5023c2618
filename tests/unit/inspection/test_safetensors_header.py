"""The header reader against the safetensors library, and against every kind of damage."""

import json
import math
import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from registry.errors import InvalidAdapter
from registry.inspection.safetensors_header import TensorInfo, read_header

CODES = {"lfs_pointer", "header_invalid", "dtype_unsupported", "tensor_out_of_bounds"}
NAMES = {
    np.dtype(np.bool_): "BOOL",
    np.dtype(np.uint8): "U8",
    np.dtype(np.int8): "I8",
    np.dtype(np.uint16): "U16",
    np.dtype(np.int16): "I16",
    np.dtype(np.float16): "F16",
    np.dtype(np.uint32): "U32",
    np.dtype(np.int32): "I32",
    np.dtype(np.float32): "F32",
    np.dtype(np.uint64): "U64",
    np.dtype(np.int64): "I64",
    np.dtype(np.float64): "F64",
}
ENTRY: dict[str, Any] = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

Tensors = dict[str, np.ndarray[Any, Any]]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """One for all examples of a property, each of which rewrites its file."""
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def tensors() -> st.SearchStrategy[Tensors]:
    name = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
    shape = st.lists(st.integers(0, 5), max_size=4).map(tuple)
    array = st.builds(np.zeros, shape, st.sampled_from(sorted(NAMES, key=str)))
    return st.dictionaries(name.filter(lambda n: n != "__metadata__"), array, max_size=5)


def read(folder: Path, content: bytes) -> dict[str, TensorInfo]:
    file = folder / "some.safetensors"
    file.write_bytes(content)
    return read_header(file)


def code_of(folder: Path, content: bytes) -> str:
    with pytest.raises(InvalidAdapter) as caught:
        read(folder, content)
    caught.value.detail.encode()  # it is sent as UTF-8
    assert len(caught.value.detail) < 1000
    return caught.value.code


def with_header(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def assert_consistent(found: dict[str, TensorInfo], content: bytes) -> None:
    """It is within the file, and the library reads the same from the bytes."""
    for tensor in found.values():
        assert 8 <= tensor.offset_bytes <= tensor.offset_bytes + tensor.size_bytes <= len(content)
    assert sum(tensor.size_bytes for tensor in found.values()) <= len(content) - 8
    theirs = {name: (t["dtype"], list(t["shape"]), bytes(t["data"])) for name, t in reread(content)}
    assert theirs == {
        name: (
            tensor.dtype,
            list(tensor.shape),
            content[tensor.offset_bytes : tensor.offset_bytes + tensor.size_bytes],
        )
        for name, tensor in found.items()
    }


def assert_refused_or_read_alike(folder: Path, content: bytes) -> None:
    try:
        found = read(folder, content)
    except InvalidAdapter as error:
        code = error.code
    else:
        assert_consistent(found, content)
        return
    assert code in CODES


def reread(content: bytes) -> list[tuple[str, dict[str, Any]]]:
    answer: list[tuple[str, dict[str, Any]]] = deserialize(content)  # type: ignore[no-untyped-call]  # the library's stub has no types here
    return answer


# safetensors 0.8 writes no JSON for no tensors with empty metadata: hence min_size
@given(
    tensors(),
    st.none() | st.dictionaries(st.text("abc", max_size=3), st.text("äb€"), min_size=1),
)
def test_what_the_library_writes_is_read_back(
    folder: Path, written: Tensors, metadata: dict[str, str] | None
) -> None:
    content = save(written, metadata)
    found = read(folder, content)
    assert {name: (t.dtype, t.shape, t.size_bytes) for name, t in found.items()} == {
        name: (NAMES[array.dtype], array.shape, array.nbytes) for name, array in written.items()
    }
    assert_consistent(found, content)


@given(tensors(), st.data())
def test_a_file_cut_off_anywhere_is_refused(
    folder: Path, written: Tensors, data: st.DataObject
) -> None:
    content = save(written)
    cut = content[: data.draw(st.integers(0, len(content) - 1))]
    assert code_of(folder, cut) in CODES


@given(tensors(), st.data())
@settings(max_examples=300)
def test_a_damaged_header_is_refused_or_read_as_the_library_reads_it(
    folder: Path, written: Tensors, data: st.DataObject
) -> None:
    content = bytearray(save(written))
    header_end = 8 + int.from_bytes(content[:8], "little")
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, header_end - 1))] = data.draw(st.integers(0, 255))
    assert_refused_or_read_alike(folder, bytes(content))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["a", "__metadata__", "dtype", "shape", "data_offsets"]), inner
            )
        ),
    ),
    st.binary(max_size=16),
)
@settings(max_examples=300)
def test_any_json_for_a_header_is_refused_or_read_as_the_library_reads_it(
    folder: Path, header: object, data: bytes
) -> None:
    content = with_header(header, data)
    assert_refused_or_read_alike(folder, content)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_read_as_the_library_reads_them(
    folder: Path, content: bytes
) -> None:
    assert_refused_or_read_alike(folder, content)


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"\xff\xfe{}",
        b"\xef\xbb\xbf{}",
        b"[" * 50_000,
        b'{"a":' * 50_000,
        b"9" * 10_000,
        [],
        {"a": 1},
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {**ENTRY, "more": 1}},
        {"a": {**ENTRY, "shape": 2}},
        {"a": {**ENTRY, "shape": [2.0]}},
        {"a": {**ENTRY, "shape": [True, 2]}},
        {"a": {**ENTRY, "shape": [-1, -2]}},
        {"a": {**ENTRY, "shape": [1] * 9 + [2]}},
        {"a": {**ENTRY, "shape": [2**60, 0]}},
        {"a": {**ENTRY, "shape": [3]}},
        {"a": {**ENTRY, "shape": [2**39] * 8}},
        {"a": {**ENTRY, "data_offsets": [8, 0]}},
        {"a": {**ENTRY, "data_offsets": [0]}},
        {"a": {**ENTRY, "data_offsets": ["0", "8"]}},
        {"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 1]}},
        {"a\ud800": ENTRY},
        {"a" * 5000: ENTRY},
        {"a": ENTRY, "__metadata__": 5},
        {"a": ENTRY, "__metadata__": {"format": 1}},
        {"a": ENTRY, "__metadata__": {"format": "\ud800"}},
        b'{"a":{"dtype":"F32","shape":[-0,2],"data_offsets":[0,0]}}',
        b'{"a":%s,"a":%s}' % ((json.dumps(ENTRY).encode(),) * 2),
        b'{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}',
    ],
    ids=lambda header: repr(header)[:40],
)
def test_a_header_that_says_what_none_can_say_is_invalid(folder: Path, header: object) -> None:
    assert code_of(folder, with_header(header, bytes(8))) == "header_invalid"


def test_a_length_beyond_the_file_is_invalid(folder: Path) -> None:
    good = with_header({"a": ENTRY}, bytes(8))
    for length in (len(good) - 7, 2**31, 2**63, 2**64 - 1):
        assert code_of(folder, struct.pack("<Q", length) + good[8:]) == "header_invalid"


def test_a_huge_header_is_not_even_read(tmp_path: Path) -> None:
    file = tmp_path / "huge.safetensors"
    with file.open("wb") as sparse:
        sparse.write(struct.pack("<Q", 2**30))
        sparse.truncate(2**31)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidAdapter) as caught:
            read_header(file)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.code == "header_invalid"
    assert peak_bytes < 2**20


def test_an_unknown_number_format_is_unsupported(folder: Path) -> None:
    for dtype in ("F128", "f32", "", "x" * 10_000, "\ud800", None, 32, ["F32"]):
        content = with_header({"a": {**ENTRY, "dtype": dtype}}, bytes(8))
        assert code_of(folder, content) == "dtype_unsupported"


@pytest.mark.parametrize(
    ("offsets", "data_bytes"),
    [
        ([(0, 8), (8, 16)], 15),
        ([(0, 8), (8, 16)], 17),
        ([(0, 8), (4, 12)], 12),
        ([(0, 8), (0, 8)], 8),
        ([(0, 8), (12, 20)], 20),
        ([(4, 12), (12, 20)], 20),
        ([(2**61, 2**61 + 8)], 8),
    ],
    ids=["cut off", "too long", "overlap", "shared", "hole", "late start", "far away"],
)
def test_tensors_that_do_not_fill_the_file_are_out_of_bounds(
    folder: Path, offsets: list[tuple[int, int]], data_bytes: int
) -> None:
    header = {str(n): {**ENTRY, "data_offsets": list(pair)} for n, pair in enumerate(offsets)}
    assert code_of(folder, with_header(header, bytes(data_bytes))) == "tensor_out_of_bounds"


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [
        ("F4", 4),
        ("F6_E2M3", 6),
        ("F6_E3M2", 6),
        ("F8_E4M3", 8),
        ("F8_E5M2", 8),
        ("F8_E8M0", 8),
        ("F8_E4M3FNUZ", 8),
        ("F8_E5M2FNUZ", 8),
        ("BF16", 16),
        ("C64", 64),
    ],
)
def test_number_formats_that_numpy_lacks_are_measured_right(
    folder: Path, dtype: str, bits: int
) -> None:
    shape = [4, 6]
    size_bytes = math.prod(shape) * bits // 8
    entry = {"dtype": dtype, "shape": shape, "data_offsets": [0, size_bytes]}
    content = with_header({"a": entry}, bytes(size_bytes))
    assert read(folder, content)["a"].size_bytes == size_bytes
    assert reread(content)[0][0] == "a", "the library agrees"


def test_what_is_invalid_here_for_its_metadata_no_library_could_load() -> None:
    with pytest.raises(SafetensorError):
        reread(with_header({"__metadata__": 5}))
