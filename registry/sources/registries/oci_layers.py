"""Layers of an OCI artifact, as its manifest describes them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from registry.errors import InvalidSource, SourceTooLarge
from registry.inspection.peft_config import CONFIG_FILE
from registry.inspection.safetensors_header import PICKLE_FILE
from registry.inspection.training_files import NAMES as TRAINING_FILES
from registry.sources.paths import check_path
from registry.sources.quarantine import TAKEN_FILES

_NAMES = ("org.cncf.model.filepath", "org.opencontainers.image.title")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_TAR = re.compile(r".*[.+]tar([+.]gzip)?")
_BESIDE = tuple(f"application/vnd.cncf.model.{kind}." for kind in ("doc", "code", "dataset"))


@dataclass(frozen=True, slots=True)
class Layer:
    path: str
    digest: str
    size_bytes: int
    is_tar: bool
    is_config: bool
    is_beside: bool  # documents, code or data of a ModelPack, no part of an adapter

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


def read_layers(manifest: Mapping[str, Any], shown: str, max_files: int) -> list[Layer]:
    """Raises InvalidSource, SourceTooLarge, InvalidAdapter."""
    if "manifests" in manifest:
        raise InvalidSource(f"{shown} is an index of several artifacts: name one by its digest")
    listed = manifest.get("layers")
    if not isinstance(listed, list) or not listed:
        raise InvalidSource(f"{shown} is no artifact: it has no layers")
    if len(listed) > max_files:
        raise SourceTooLarge(f"{shown} holds more than {max_files} files")
    layers = [_layer(each, shown) for each in listed]
    paths = [layer.path for layer in layers if layer.path and not layer.is_tar]
    if len(set(paths)) < len(paths):
        raise InvalidSource(f"{shown} holds a file twice")
    return layers


def _layer(described: Any, shown: str) -> Layer:
    try:
        kind, digest = str(described["mediaType"]), str(described["digest"])
        size_bytes = int(described["size"])
        notes: Mapping[str, Any] = described.get("annotations") or {}
        path = next((str(notes[name]) for name in _NAMES if name in notes), "")
    except (TypeError, KeyError, ValueError, OverflowError, AttributeError):
        raise InvalidSource(f"{shown}: a layer in its manifest can't be read") from None
    if not _DIGEST.fullmatch(digest) or size_bytes < 0:
        raise InvalidSource(f"{shown}: a layer has no sha256 digest or no size")
    path = path.removeprefix("./")
    check_path(path, "the artifact")
    name = path.rpartition("/")[2]
    is_file = name in (*TAKEN_FILES, PICKLE_FILE, *TRAINING_FILES)
    is_tar = bool(_TAR.fullmatch(kind)) and not is_file
    is_config = ".config." in kind or (is_tar and name.startswith(CONFIG_FILE))
    return Layer(path, digest, size_bytes, is_tar, is_config, kind.startswith(_BESIDE))
