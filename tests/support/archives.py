"""Exports taken apart and put together again, right or wrong, for tests of imports."""

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from typing import Any

from blake3 import blake3

Parts = dict[str, bytes]
INDEX = "adaptry-export.json"


def parts_of(archive: bytes) -> Parts:
    """The content of each file, by name and in order."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {member.name: _content(tar, member) for member in tar}


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


def archive_of(parts: Mapping[str, bytes], **headers: Any) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **headers) as tar:
        for name, content in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def changed_json(content: bytes, change: Callable[[Any], object]) -> bytes:
    value = json.loads(content)
    change(value)
    return json.dumps(value).encode()


def sealed(parts: Parts) -> Parts:
    """With an index that fits to what is there, as if it had been exported so."""
    index = json.loads(parts[INDEX])
    index["adapters"] = {
        name.removeprefix("adapters/").removesuffix(".json"): blake3(content).hexdigest()
        for name, content in parts.items()
        if name.startswith("adapters/")
    }
    index["files"] = sorted({name.split("/")[1] for name in parts if name.startswith("files/")})
    index["events"] = blake3(parts["events.jsonl"]).hexdigest() if "events.jsonl" in parts else None
    return {**parts, INDEX: json.dumps(index).encode()}
