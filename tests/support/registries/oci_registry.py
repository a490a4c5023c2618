"""A real OCI registry, Debian's docker-registry, on a port of its own, and what is pushed to it."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oras.client  # first: oras.provider alone is a circular import
import oras.container
import oras.oci
import oras.provider
import pytest

START_SECONDS = 30
_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}/blobs}}, delete: {{enabled: true}}}}
http: {{addr: "127.0.0.1:{port}"}}
{more}
"""


@dataclass(frozen=True, slots=True)
class PushedLayer:
    content: bytes
    media_type: str
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class OciRegistry:
    port: int
    folder: Path

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def push(self, name: str, layers: Sequence[PushedLayer], **more: Any) -> None:
        """`name` with a tag. `more`: fields of the manifest."""
        client = oras.provider.Registry(hostname=self.place, insecure=True)
        container = oras.container.Container(f"{self.place}/{name}")

        def upload(layer: PushedLayer) -> dict[str, Any]:
            path = self.folder / "layer"
            path.write_bytes(layer.content)
            described: dict[str, Any] = oras.oci.NewLayer(str(path), layer.media_type)
            client.upload_blob(str(path), container, described)
            return {**described, "annotations": dict(layer.annotations)}

        manifest = oras.oci.NewManifest()
        manifest["layers"] = [upload(layer) for layer in layers]
        manifest["config"] = upload(PushedLayer(b"{}", "application/vnd.oci.empty.v1+json", {}))
        response = client.upload_manifest({**manifest, **more}, container)
        assert response.status_code == 201, response.text

    def stored(self, digest: str) -> Path:
        """The file of a blob."""
        hexadecimal = digest.removeprefix("sha256:")
        root = self.folder / "blobs/docker/registry/v2/blobs/sha256"
        return root / hexadecimal[:2] / hexadecimal / "data"


@contextmanager
def oci_registry(folder: Path, more: str = "") -> Iterator[OciRegistry]:
    """`more`: further lines of its configuration."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed (Debian: apt-get install docker-registry)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    config = folder / "config.yml"
    config.write_text(_CONFIG.format(folder=folder, port=port, more=more))
    process = subprocess.Popen(
        [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not _listens(port):
            assert process.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield OciRegistry(port, folder)
    finally:
        process.terminate()
        process.wait(10)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
