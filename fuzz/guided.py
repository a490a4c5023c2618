"""Coverage-guided fuzzing (atheris, libFuzzer) of the parsers that read untrusted bytes first.

`python -m fuzz.guided header|reference|depth [libFuzzer's options]`: it ends with a status other
than 0 and the input that did it, should anything be raised but the errors that are meant.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["registry"], enable_loader_override=False):
    from registry.errors import InvalidAdapter, InvalidReference
    from registry.http.json_shape import is_too_deep
    from registry.inspection.safetensors_header import read_header
    from registry.references import parse_reference

from safetensors import SafetensorError, deserialize

from fuzz.hostile_files import DATA, HEADER, weights

LEVELS = 20
SEEDS: dict[str, tuple[bytes, ...]] = {
    "header": (
        weights(HEADER),
        weights({}),
        weights(HEADER, DATA, 8),
        weights({"__metadata__": {}}, b""),
    ),
    "reference": (b"support", b"support@prod", b"support:3", b"a" * 64, b"x:2147483648"),
    "depth": (b'{"a":["b\\"["]}', b"[" * LEVELS + b"]" * LEVELS, b'"\\\\"[[{}]]'),
}


class Header:
    """Accepted by us means accepted by safetensors, with the same tensors at the same places."""

    def __init__(self) -> None:
        """In memory: libFuzzer ends the process without a chance to remove a file."""
        self._file = os.fdopen(os.memfd_create("hostile"), "wb")
        self._path = Path(f"/proc/self/fd/{self._file.fileno()}")

    def __call__(self, content: bytes) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(content)
        self._file.flush()
        try:
            ours = read_header(self._path)
        except InvalidAdapter:
            return
        try:
            theirs = dict(deserialize(content))  # type: ignore[no-untyped-call]  # it has no types
        except SafetensorError as error:
            raise AssertionError(f"taken, though safetensors does not: {error}") from error
        found = {name: (info.dtype, list(info.shape)) for name, info in ours.items()}
        if found != {name: (each["dtype"], each["shape"]) for name, each in theirs.items()}:
            raise AssertionError("not the tensors that safetensors sees")


def reference(content: bytes) -> None:
    """Whatever is read is written the same way again."""
    text = content.decode("utf-8", "surrogateescape")
    try:
        parsed = parse_reference(text)
    except InvalidReference:
        return
    if str(parsed) != text:
        raise AssertionError(f"{text!r} was read as {parsed}")


def depth(content: bytes) -> None:
    """Whatever `json` can read is as deep as it says."""
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError):
        is_too_deep(content, LEVELS)
        return
    if is_too_deep(content, LEVELS) != (_levels(value) > LEVELS):
        raise AssertionError(f"{_levels(value)} levels")


def _levels(value: object) -> int:
    levels, layer = 0, [value]
    while layer := [each for each in layer if isinstance(each, list | dict)]:
        levels += 1
        layer = [
            inner for each in layer for inner in (each.values() if isinstance(each, dict) else each)
        ]
    return levels


TARGETS: dict[str, Callable[[], Callable[[bytes], None]]] = {
    "header": Header,
    "reference": lambda: reference,
    "depth": lambda: depth,
}


def main(name: str, options: list[str]) -> None:
    """Does not return: libFuzzer ends the process."""
    corpus = Path(tempfile.mkdtemp())
    for number, content in enumerate(SEEDS[name]):
        (corpus / str(number)).write_bytes(content)
    target = TARGETS[name]()
    atheris.Setup([sys.argv[0], *options, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
