"""Hostile adapters, as the files of their folders."""

import json
import os
import socket
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import strategies as st

MODULE = "model.layers.0.self_attn.q_proj"
RANK, WIDTH = 4, 128  # fits the demo's base model
A = f"base_model.model.{MODULE}.lora_A.weight"
B = f"base_model.model.{MODULE}.lora_B.weight"
CONFIG: dict[str, Any] = {
    "peft_type": "LORA", "r": RANK, "lora_alpha": 8, "target_modules": ["q_proj"],
    "rank_pattern": {}, "alpha_pattern": {}, "bias": "none", "use_dora": False,
    "modules_to_save": None, "init_lora_weights": True, "base_model_name_or_path": "tiny",
}  # fmt: skip
HALF = RANK * WIDTH * 4
HEADER: dict[str, Any] = {
    A: {"dtype": "F32", "shape": [RANK, WIDTH], "data_offsets": [0, HALF]},
    B: {"dtype": "F32", "shape": [WIDTH, RANK], "data_offsets": [HALF, 2 * HALF]},
}
DATA = struct.pack(f"<{HALF // 2}f", *[0.5] * (HALF // 2))
LEVELS = (2, 16, 17, 100, 990, 100_000)
SPARSE_BYTES = (2**20, 2**23, 2**34)

Anything = TypeVar("Anything")


def weighted(*given: tuple[int, st.SearchStrategy[Anything]]) -> st.SearchStrategy[Anything]:
    """One of them, as often as its number says: `one_of` knows each strategy once."""
    table = [strategy for weight, strategy in given for _ in range(weight)]
    return st.integers(0, len(table) - 1).flatmap(table.__getitem__)


sizes = st.sampled_from([0, 1, 4, 8, HALF, 2**31, 2**40, 2**62, 2**64, 10**400, -1]) | st.integers()
names = (
    st.sampled_from([A, B, MODULE, "", "\0", "é" * 500, "😀", "__metadata__", "\ud800", "x" * 5000])
    | st.text(max_size=20)
    | st.builds(lambda text: f"base_model.model.{text}.lora_A.weight", st.text(max_size=20))
)
values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=10) | sizes,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)
dtypes = st.sampled_from(["F32", "F16", "BF16", "F64", "F8_E4M3", "F4", "I8", "C64", "x", ""])
entries = st.fixed_dictionaries(
    {
        "dtype": dtypes | values,
        "shape": st.lists(sizes, max_size=3) | values,
        "data_offsets": st.lists(sizes, min_size=2, max_size=2) | values,
    }
)
deep = st.builds(
    lambda levels, opening, closing: opening * levels + closing * levels,
    st.sampled_from(LEVELS),
    st.sampled_from([b"[", b'{"a":', b'[{"a":']),
    st.sampled_from([b"", b"]", b"}"]),
)
raw = deep | st.binary(max_size=200) | st.builds(lambda n: b"9" * n, st.sampled_from([5000, 10**5]))
edits = st.lists(st.tuples(st.integers(0, 2**12), st.binary(max_size=4)), max_size=4)


def edited(content: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    """Content with some bytes replaced, and truncated where the replacement is empty."""
    for position, new in changes:
        at = position % (len(content) + 1)
        content = content[:at] + new + content[at + len(new) :] if new else content[:at]
    return content


def weights(header: object, data: bytes = DATA, lie: int = 0) -> bytes:
    """`lie`: how much the header overstates its length."""
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", min(max(0, len(content) + lie), 2**64 - 1)) + content + data


def _merged(base: dict[str, Any]) -> Callable[[dict[str, Any]], bytes]:
    return lambda new: json.dumps({**base, **new}).encode()


GOOD_CONFIG = json.dumps(CONFIG).encode()
GOOD_WEIGHTS = weights(HEADER)
good_config = st.just(GOOD_CONFIG)
good_weights = st.just(GOOD_WEIGHTS)
configs = (
    st.dictionaries(st.sampled_from(sorted(CONFIG)) | names, values, max_size=4).map(
        _merged(CONFIG)
    )
    | st.builds(edited, good_config, edits)
    | st.builds(lambda text: text.decode().encode("utf-16"), good_config)
    | raw
)
headers = st.dictionaries(names, entries | values, max_size=3).map(_merged(HEADER)) | raw
lies = st.sampled_from([0, 0, 0, 1, -1, 8, 1000, 2**40, 2**63])
weight_files = st.builds(
    lambda header, lie, left: weights(header, DATA[left:], lie),
    headers,
    lies,
    st.sampled_from([0, 0, 0, 1, HALF, 2 * HALF]),
) | st.builds(edited, good_weights, edits)


@dataclass(frozen=True, slots=True)
class HostileFile:
    """`kind` says what it is instead of a file with this content."""

    content: bytes
    kind: str = "file"

    def make(self, path: Path) -> None:
        _MAKERS[self.kind](path, self.content)


def _sparse(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.truncate(path, SPARSE_BYTES[len(content) % len(SPARSE_BYTES)])


def _device(path: Path, content: bytes) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))  # /dev/zero
    except PermissionError:
        path.symlink_to("/dev/zero")


def _socket(path: Path, content: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{descriptor}/{path.name}")  # the path itself may be too long
        finally:
            os.close(descriptor)


def _hard_link(path: Path, content: bytes) -> None:
    other = path.with_name("other")
    other.write_bytes(content)
    os.link(other, path)
    other.unlink()


def _unreadable(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0)


def _loop(path: Path, content: bytes) -> None:
    path.symlink_to(path.name)


_MAKERS: dict[str, Callable[[Path, bytes], object]] = {
    "file": Path.write_bytes,
    "nothing": lambda path, content: None,
    "sparse": _sparse,
    "folder": lambda path, content: path.mkdir(),
    "pipe": lambda path, content: os.mkfifo(path),
    "device": _device,
    "socket": _socket,
    "hard link": _hard_link,
    "unreadable": _unreadable,
    "link to itself": _loop,
    "link to nowhere": lambda path, content: path.symlink_to("nowhere"),
    "link to a secret": lambda path, content: path.symlink_to("/etc/passwd"),
    "link to a device": lambda path, content: path.symlink_to("/dev/zero"),
}
kinds = st.sampled_from(["file"] * 3 * len(_MAKERS) + sorted(_MAKERS))
config_files = st.builds(HostileFile, configs, kinds) | st.builds(HostileFile, good_config)
weights_files = st.builds(HostileFile, weight_files, kinds) | st.builds(HostileFile, good_weights)
