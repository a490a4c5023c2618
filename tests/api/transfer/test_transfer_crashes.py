"""An interrupted import, by its client or by the death of the server, leaves nothing."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from blake3 import blake3

from adaptry.importers.base import ForeignAdapter, ForeignVersion, export_entries
from registry.models import now
from registry.storage.integrity import manifest_digest
from registry.storage.tar import Entry, tar_chunks
from registry.transfer.format import AdapterManifest, Index, VersionManifest
from tests.api.conftest import write_adapter
from tests.support.servers.registry_subprocess import ServerProcess

pytestmark = pytest.mark.both_databases

ADAPTERS = 60
KILLS = 4


@pytest.fixture
async def process(
    tmp_path: Path, other_database_url: str, unused_tcp_port: int
) -> AsyncIterator[ServerProcess]:
    server = ServerProcess(tmp_path, other_database_url, unused_tcp_port)
    await server.start()
    yield server
    await server.kill()


@pytest.fixture
def archive(tmp_path: Path) -> bytes:
    """Of many small adapters."""
    at = now()
    many = [
        ForeignAdapter(f"a{n}", at, [ForeignVersion(folder, "/x", at, "me", number=1)])
        for n in range(ADAPTERS)
        for folder in [write_adapter(tmp_path / f"a{n}", seed=n)]
    ]
    return b"".join(tar_chunks(export_entries(many, at)))


async def adapters(http: httpx.AsyncClient) -> int:
    return len((await http.get("/adapters", params={"limit": 500})).json()["items"])


def quarantined(process: ServerProcess) -> list[Path]:
    return list((process.store / "quarantine").iterdir())


async def cleared(process: ServerProcess) -> None:
    """What a killed server left is deleted at the next start."""
    async with asyncio.timeout(10):
        while quarantined(process):
            await asyncio.sleep(0.02)


async def test_a_server_that_dies_during_an_import_has_all_or_nothing_of_it(
    process: ServerProcess, archive: bytes
) -> None:
    async with httpx.AsyncClient(base_url=process.url, timeout=60) as http:
        started = asyncio.get_running_loop().time()
        dry = await http.post("/import", content=archive, params={"dry_run": True})
        assert dry.status_code == 200, dry.text
        whole_seconds = (asyncio.get_running_loop().time() - started) * 2
        seen = set()
        for kill in range(KILLS):
            importing = asyncio.create_task(http.post("/import", content=archive))
            await asyncio.sleep(whole_seconds * kill / KILLS)
            await process.kill()
            await asyncio.gather(importing, return_exceptions=True)
            await process.start()
            found = await adapters(http)
            assert found in (0, ADAPTERS), "half of an import"
            await cleared(process)
            seen.add(found)
        assert 0 in seen
        report = await http.post("/import", content=archive)
        assert report.status_code == 200, report.text
        assert await adapters(http) == ADAPTERS
        again = (await http.get("/export")).content
    names = [line for line in archive.split(b"\n") if b'"digest"' in line]
    assert names
    assert all(name in again for name in names)


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_a_client_that_disconnects_midway_leaves_nothing(
    process: ServerProcess, archive: bytes
) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield archive[: len(archive) // 2]
        await asyncio.sleep(60)

    async with httpx.AsyncClient(base_url=process.url) as http, asyncio.timeout(20):
        sending = asyncio.create_task(http.post("/import", content=half()))
        while not quarantined(process):
            await asyncio.sleep(0.05)
        sending.cancel()
        while quarantined(process):
            await asyncio.sleep(0.05)
        assert await adapters(http) == 0
    assert "Traceback" not in process.log.read_text()


@pytest.mark.parametrize("database_kind", ["sqlite"])
async def test_large_files_pass_through_little_memory(
    process: ServerProcess, tmp_path: Path
) -> None:
    size_bytes = 256 * 2**20
    entries = _large_adapter(tmp_path, size_bytes)
    before = process.peak_bytes()
    async with httpx.AsyncClient(base_url=process.url, timeout=120) as http:

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in tar_chunks(entries):
                yield chunk

        report = await http.post("/import", content=chunks())
        assert report.status_code == 200, report.text
        received = 0
        async with http.stream("GET", "/export") as response:
            async for chunk in response.aiter_bytes():
                received += len(chunk)
    assert received > size_bytes
    assert process.peak_bytes() - before < size_bytes / 2


def _large_adapter(folder: Path, size_bytes: int) -> list[Entry]:
    """An export of one adapter that is almost all one tensor."""
    weights = folder / "large.safetensors"
    _write_weights(weights, rank=4, columns=size_bytes // 16)
    config = json.dumps(
        {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}
    ).encode()
    hasher = blake3()
    with weights.open("rb") as file:
        while chunk := file.read(2**20):
            hasher.update(chunk)
    digest = manifest_digest(
        [
            ("adapter_config.json", len(config), blake3(config).hexdigest()),
            ("adapter_model.safetensors", weights.stat().st_size, hasher.hexdigest()),
        ]
    )
    version = VersionManifest(digest=digest, source="/x", created_at=now(), created_by="me")
    manifest = AdapterManifest(name="large", created_at=now(), versions=(version,)).to_json()
    index = Index(adapters={"large": blake3(manifest).hexdigest()}, files=(digest,))
    return [
        Entry("adaptry-export.json", index.to_json()),
        Entry("adapters/large.json", manifest),
        Entry(f"files/{digest}/adapter_config.json", config),
        Entry(f"files/{digest}/adapter_model.safetensors", weights),
    ]


def _write_weights(path: Path, *, rank: int, columns: int) -> None:
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    a_bytes, b_bytes = rank * columns * 4, 8 * rank * 4
    header = json.dumps(
        {
            f"{prefix}.lora_A.weight": _tensor([rank, columns], 0, a_bytes),
            f"{prefix}.lora_B.weight": _tensor([8, rank], a_bytes, a_bytes + b_bytes),
        }
    ).encode()
    ones = struct.pack("<f", 1.0)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for _ in range(rank):
            file.write(ones * columns)
        file.write(ones * 8 * rank)


def _tensor(shape: list[int], begin: int, end: int) -> dict[str, Any]:
    return {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
