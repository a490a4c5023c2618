"""Safetensors files: which adapters are of one kind, and what is refused."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from engine.worker import safetensors_file
from engine.worker.safetensors_file import (
    CONFIG,
    WEIGHTS,
    Unreadable,
    holds_mixtures,
    open_adapter,
)
from engine.worker.slot_layout import Read


def write(folder: Path, *, metadata: dict[str, str] | None, rank: int = 4, **config: Any) -> str:
    folder.mkdir()
    size = 4 * rank
    header: dict[str, Any] = {"a": {"dtype": "F32", "shape": [rank], "data_offsets": [0, size]}}
    if metadata is not None:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    data = torch.arange(rank, dtype=torch.float32).numpy().tobytes()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / CONFIG).write_text(json.dumps({"r": rank, "lora_alpha": 8, **config}))
    return str(folder)


def kind_of(folder: str) -> str:
    with open_adapter(folder) as adapter:
        return adapter.kind


def test_metadata_makes_no_kind_of_its_own(tmp_path: Path) -> None:
    """Trainers write the time and the step into it."""
    kinds = {
        kind_of(write(tmp_path / name, metadata=metadata))
        for name, metadata in {
            "none": None,
            "monday": {"format": "pt", "saved_at": "2026-01-05T10:00:00"},
            "tuesday": {"format": "pt", "saved_at": "2026-01-06T10:00:00", "step": "7"},
        }.items()
    }
    assert len(kinds) == 1


def test_a_header_that_is_known_is_not_parsed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[bytes] = []
    parse = safetensors_file._parse_header

    def note(header: bytes) -> Any:
        parsed.append(header)
        return parse(header)

    monkeypatch.setattr(safetensors_file, "_parse_header", note)
    named = {"of": "this test"}
    first, again = (write(tmp_path / name, metadata=named) for name in "ab")
    assert kind_of(first) == kind_of(again)
    assert len(parsed) == 1
    Path(again, CONFIG).write_text(json.dumps({"r": 99}))
    assert kind_of(again) != kind_of(first)
    assert len(parsed) == 2


def test_known_headers_have_one_bound_of_memory(tmp_path: Path) -> None:
    """Parsed, a header takes 4 times as much as its text."""
    large = "x" * (safetensors_file._MAX_KNOWN_BYTES // 4)
    for number in range(8):
        kind_of(write(tmp_path / str(number), metadata={"note": f"{number}{large}"}))
    known = list(safetensors_file._kinds.values())
    assert known, "else nothing is kept"
    assert sum(kind.header_bytes for kind in known) <= safetensors_file._MAX_KNOWN_BYTES
    kind_of(write(tmp_path / "larger than all", metadata={"note": large * 5}))
    assert all(kind in safetensors_file._kinds.values() for kind in known)


def test_shapes_and_configuration_make_a_kind(tmp_path: Path) -> None:
    kinds = {
        kind_of(write(tmp_path / "a", metadata=None)),
        kind_of(write(tmp_path / "b", metadata=None, rank=8)),
        kind_of(write(tmp_path / "c", metadata=None, lora_alpha=16)),
    }
    assert len(kinds) == 3


def test_the_data_is_read_whatever_the_metadata(tmp_path: Path) -> None:
    with open_adapter(write(tmp_path / "a", metadata={"saved_at": "now"})) as adapter:
        assert list(adapter.tensors()) == ["a"]
        memory = torch.empty(adapter.size_bytes, dtype=torch.uint8)
        adapter.read_into(memory, [Read(0, adapter.size_bytes, 0)])
        assert adapter.tensors()["a"].view_of(memory).tolist() == [0, 1, 2, 3]


def test_ranges_are_read_to_their_places(tmp_path: Path) -> None:
    with open_adapter(write(tmp_path / "a", metadata=None)) as adapter:
        itemsize = adapter.size_bytes // 4
        memory = torch.empty(2 * itemsize, dtype=torch.uint8)
        adapter.read_into(
            memory, [Read(3 * itemsize, 4 * itemsize, 0), Read(0, itemsize, itemsize)]
        )
        assert memory.view(adapter.tensors()["a"].dtype).tolist() == [3, 0]
        with pytest.raises(Unreadable, match="shorter"):
            adapter.read_into(memory, [Read(3 * itemsize, 5 * itemsize, 0)])


@pytest.mark.parametrize("header", [b"[1, 2]", b"{oh", b"\xff\xfe", b'{"a": 1}', b'{"a": {}}'])
def test_a_header_that_is_none_is_refused(tmp_path: Path, header: bytes) -> None:
    folder = Path(write(tmp_path / "a", metadata=None))
    (folder / WEIGHTS).write_bytes(len(header).to_bytes(8, "little") + header + b"data")
    with pytest.raises(Unreadable), open_adapter(str(folder)):
        pass


@pytest.mark.parametrize("is_known", [False, True])
def test_a_file_that_was_cut_off_is_refused_before_anything_is_learnt_from_it(
    tmp_path: Path, *, is_known: bool
) -> None:
    """Its header is that of whole ones, which would take the slower path with it."""
    mark = {"of": f"this test, {is_known}"}
    if is_known:
        kind_of(write(tmp_path / "whole", metadata=mark))
    weights = Path(write(tmp_path / "cut", metadata=mark), WEIGHTS)
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(Unreadable, match="shorter"), open_adapter(str(weights.parent)):
        pass


def test_what_says_nothing_of_places_makes_no_kind_of_its_own(tmp_path: Path) -> None:
    """PEFT writes sets in any order."""
    configs: dict[str, dict[str, Any]] = {
        "a": {"target_modules": ["q", "v"]},
        "b": {"target_modules": ["v", "q"], "alora_invocation_tokens": [1, 2]},
        "c": {"target_modules": ["q", "v"], "base_model_name_or_path": "of/another", "revision": 2},
    }
    made = {kind_of(write(tmp_path / name, metadata=None, **c)) for name, c in configs.items()}
    assert len(made) == 1
    other = write(tmp_path / "other", metadata=None, rank_pattern={"q": 2, "v": 4})
    turned = write(tmp_path / "turned", metadata=None, rank_pattern={"v": 4, "q": 2})
    assert kind_of(other) != kind_of(turned), "there the first that matches counts"


def with_header(folder: Path, tensors: dict[str, Any], data: bytes) -> str:
    write(folder, metadata=None)
    text = json.dumps(tensors).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data)
    return str(folder)


def test_what_can_not_be_viewed_in_place_is_said(tmp_path: Path) -> None:
    byte = {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}
    shifted = {"dtype": "F32", "shape": [1], "data_offsets": [2, 6]}
    for name, tensors in {"byte": {"a": byte}, "shifted": {"b": shifted}}.items():
        folder = with_header(tmp_path / name, tensors, b"123456")
        with (
            open_adapter(folder) as adapter,
            pytest.raises(Unreadable, match="can't be viewed in place"),
        ):
            adapter.tensors()


def test_a_mixture_is_found_by_any_of_its_pairs(tmp_path: Path) -> None:
    def entry(number: int) -> dict[str, Any]:
        return {"dtype": "F32", "shape": [1], "data_offsets": [4 * number, 4 * number + 4]}

    names = ["model.q_proj.lora_A.weight", "model.mlp.experts.lora_A.weight"]
    mixed = {name: entry(number) for number, name in enumerate(names)}
    assert holds_mixtures(with_header(tmp_path / "mixed", mixed, bytes(8)))
    assert not holds_mixtures(with_header(tmp_path / "plain", {names[0]: entry(0)}, bytes(4)))


@pytest.mark.parametrize("length", [0, safetensors_file._MAX_HEADER_BYTES + 1, 2**63])
def test_a_length_that_is_none_is_refused_without_reading_so_much(
    tmp_path: Path, length: int
) -> None:
    folder = Path(write(tmp_path / "a", metadata=None))
    (folder / WEIGHTS).write_bytes(length.to_bytes(8, "little") + b"{}" + b"data")
    with pytest.raises(Unreadable, match="does not begin"), open_adapter(str(folder)):
        pass


def test_no_file_stays_open(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good", metadata=None), write(tmp_path / "bad", metadata=None)
    Path(bad, WEIGHTS).write_bytes(b"short")
    before = set(os.listdir("/proc/self/fd"))
    kind_of(good)
    with pytest.raises(Unreadable), open_adapter(bad):
        pass
    assert len(os.listdir("/proc/self/fd")) == len(before)
