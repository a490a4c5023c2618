"""The demo's adapters as the store keeps them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from blake3 import blake3

from registry.storage.integrity import manifest_digest

ADAPTERS = Path(__file__).resolve().parents[3] / "demo" / "adapters"


def demo_files(name: str) -> Iterator[tuple[str, int, str]]:
    """Name, bytes and hash of each file."""
    for file in (ADAPTERS / name).iterdir():
        content = file.read_bytes()
        yield file.name, len(content), blake3(content).hexdigest()


def keep_demo_adapter(store: Path, name: str) -> None:
    """As a registration would, but for the seal."""
    digest = manifest_digest(demo_files(name))
    shutil.copytree(ADAPTERS / name, store / "adapters" / digest[:2] / digest)
