"""Adapters from the Hub: pinned, with the token that is set, and no more than is needed."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.errors import (
    AddressNotAllowed,
    InvalidAdapter,
    SourceDenied,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
)
from registry.inspection.training_files import NAMES
from registry.sources.base import FetchLimits
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from tests.support.adapters.fetch import Fetch
from tests.support.servers.huggingface_hub import (
    COMMIT_1,
    COMMIT_2,
    HubServer,
    Repository,
    hub_server,
)
from tests.support.servers.web import web_server

ROOT = Path(__file__).resolve().parents[3]
CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
OLD = {CONFIG: b'{"old": 1}', WEIGHTS: b"old weights", "README.md": b"r" * 9000}
NEW = {CONFIG: b"{}", WEIGHTS: b"new weights" * 9000, "optimizer.pt": b"o" * 9000}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without the developer's own token and cache."""
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no token"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with hub_server() as server:
        refs = {"main": COMMIT_2, "v1": COMMIT_1, "refs/pr/3": COMMIT_1}
        server.repositories["org/support"] = Repository(refs, {COMMIT_1: OLD, COMMIT_2: NEW})
        yield server


@pytest.fixture
def fetch(hub: HubServer, tmp_path: Path) -> Fetch:
    def sources(guard: EgressGuard) -> RemoteSources:
        return RemoteSources(("hf://",), guard, hub_endpoint=hub.url)

    return Fetch(tmp_path, 1_000_000, sources)


@pytest.mark.parametrize(
    ("at", "commit", "content"),
    [
        ("", COMMIT_2, NEW),
        ("@main", COMMIT_2, NEW),
        ("@v1", COMMIT_1, OLD),
        ("@refs%2Fpr%2F3", COMMIT_1, OLD),
        (f"@{COMMIT_1}", COMMIT_1, OLD),
    ],
)
async def test_a_revision_is_pinned_to_its_commit(
    hub: HubServer, fetch: Fetch, at: str, commit: str, content: dict[str, bytes]
) -> None:
    fetched, files = await fetch(f"hf://org/support{at}")
    assert fetched.revision == commit
    assert files == {name: content[name] for name in (CONFIG, WEIGHTS)}
    base = f"/org/support/resolve/{commit}"
    wanted = [f"{base}/{name}" for name in (CONFIG, WEIGHTS, *NAMES)]
    assert hub.downloads() == wanted, "the commit, and no more"
    total = sum(map(len, files.values()))
    assert (fetch.progress.bytes_done, fetch.progress.bytes_total) == (total, total)


async def test_a_branch_that_moves_between_two_files_is_not_mixed(
    hub: HubServer, fetch: Fetch
) -> None:
    repository = hub.repositories["org/support"]
    give = hub.RequestHandlerClass._give  # type: ignore[attr-defined]  # HubHandler's

    class Moving(hub.RequestHandlerClass):  # type: ignore[name-defined,misc]
        def _give(self, *arguments: str) -> None:
            give(self, *arguments)
            repository.refs["main"] = COMMIT_1

    hub.RequestHandlerClass = Moving
    fetched, files = await fetch("hf://org/support")
    assert fetched.revision == COMMIT_2
    assert files == {name: NEW[name] for name in (CONFIG, WEIGHTS)}


async def test_a_folder_of_a_repository(hub: HubServer, fetch: Fetch) -> None:
    deep = {f"adapters/a/{name}": content for name, content in OLD.items()}
    hub.repositories["org/many"] = Repository({"main": COMMIT_1}, {COMMIT_1: deep})
    _, files = await fetch("hf://org/many@main/adapters/a")
    assert files == {name: OLD[name] for name in (CONFIG, WEIGHTS)}


@pytest.mark.parametrize("folder", ["", "/style"])
async def test_an_adapter_of_a_diffusion_model_is_told_by_its_tensors(
    hub: HubServer, fetch: Fetch, folder: str
) -> None:
    """The file has any name: the Hub lists it."""
    header = b'{"lora_te_text_model.lora_down.weight": {"dtype": "F16"}}'
    content = len(header).to_bytes(8, "little") + header
    files = {"README.md": b"r", f"{folder}/v1.safetensors".lstrip("/"): content}
    hub.repositories["org/style"] = Repository({"main": COMMIT_1}, {COMMIT_1: files})
    with pytest.raises(InvalidAdapter, match=r"v1\.safetensors.*kohya") as caught:
        await fetch(f"hf://org/style{folder and '@main' + folder}")
    assert caught.value.code == "diffusion_adapter"


async def test_a_pickle_is_noted_but_not_fetched(hub: HubServer, fetch: Fetch) -> None:
    files = {CONFIG: b"{}", PICKLE: b"x" * 5_000_000}
    hub.repositories["org/old"] = Repository({"main": COMMIT_1}, {COMMIT_1: files})
    assert (await fetch("hf://org/old"))[1] == {CONFIG: b"{}", PICKLE: b""}


async def test_the_token_of_the_environment_is_used_and_stays_with_the_hub(
    hub: HubServer, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.repositories["org/support"].token = "hf_secret"
    with pytest.raises(SourceNotFound, match="HF_TOKEN"):
        await fetch("hf://org/support")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with web_server() as cdn:
        hub.cdn = cdn.url
        cdn.file(f"/org/support/{COMMIT_2}/{WEIGHTS}", NEW[WEIGHTS])
        fetched, files = await fetch("hf://org/support")
        assert fetched.revision == COMMIT_2
        assert files[WEIGHTS] == NEW[WEIGHTS]
        assert [path for _, path in cdn.asked] == [
            f"/org/support/{COMMIT_2}/{WEIGHTS}?signature=abc"
        ]
        assert "authorization" not in cdn.headers[0], "the CDN is another host"


async def test_a_redirect_to_a_private_address_is_not_followed(
    hub: HubServer, fetch: Fetch
) -> None:
    with web_server("127.0.0.2") as secret:
        hub.cdn = secret.url
        with pytest.raises(AddressNotAllowed, match=r"127\.0\.0\.2"):
            await fetch("hf://org/support")
        assert secret.asked == []


async def test_a_private_hub_needs_to_be_allowed(hub: HubServer, fetch: Fetch) -> None:
    with pytest.raises(AddressNotAllowed):
        await fetch("hf://org/support", EgressGuard())
    assert hub.asked == []


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("hf://org/nobody", SourceNotFound),
        ("hf://org/support@v9", SourceNotFound),
        (f"hf://org/support@{'9' * 40}", SourceNotFound),
        ("hf://org/support/no/folder", SourceNotFound),
        ("hf://org/gated", SourceDenied),
    ],
)
async def test_what_is_not_there_is_said(
    hub: HubServer, fetch: Fetch, url: str, error: type[Exception]
) -> None:
    gated = Repository({"main": COMMIT_1}, {COMMIT_1: OLD}, is_gated=True)
    hub.repositories["org/gated"] = gated
    with pytest.raises(error):
        await fetch(url)


async def test_a_hub_that_is_down_may_come_back(hub: HubServer, fetch: Fetch) -> None:
    for requests in (1, 2):
        hub.down = 1
        if requests == 2:
            hub.asked.clear()
        with pytest.raises(SourceUnavailable):
            await fetch("hf://org/support")
    fetched, _ = await fetch("hf://org/support")
    assert fetched.revision == COMMIT_2


async def test_too_large_is_known_before_it_comes(hub: HubServer, fetch: Fetch) -> None:
    fetch.limits = FetchLimits(1000)
    with pytest.raises(SourceTooLarge):
        await fetch("hf://org/support")
    assert fetch.progress.bytes_done == len(NEW[CONFIG])


OFFLINE = """
import asyncio, json, pathlib, sys
from huggingface_hub import constants
from registry.errors import RegistryError
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from registry.sources.base import FetchLimits, Progress

assert constants.ENDPOINT == sys.argv[3]
into = pathlib.Path(sys.argv[2])
source = RemoteSources(("hf://",), EgressGuard()).open(sys.argv[1])[1]
try:
    fetched = asyncio.run(source.fetch(into, FetchLimits(10**6), Progress()))
    print(json.dumps([fetched.revision, [file.name for file in fetched.files]]))
except RegistryError as error:
    print(json.dumps([error.code, error.detail]))
"""


def offline(url: str, into: Path, hub: HubServer, cache: Path) -> Any:
    """In a process of its own: the environment is read at the start."""
    into.mkdir()
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_CACHE": str(cache),
        "HF_ENDPOINT": hub.url,
    }
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, url, str(into), hub.url],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def test_offline_only_the_cache_is_asked(hub: HubServer, tmp_path: Path) -> None:
    from huggingface_hub import hf_hub_download

    cache = tmp_path / "cache"
    code, detail = offline("hf://org/support@v1", tmp_path / "1", hub, cache)
    assert code == "source_not_found"
    assert "offline" in detail
    for name in (CONFIG, WEIGHTS):
        hf_hub_download("org/support", name, revision="v1", cache_dir=cache, endpoint=hub.url)
    hub.asked.clear()
    found = [COMMIT_1, [CONFIG, WEIGHTS]]
    assert offline("hf://org/support@v1", tmp_path / "2", hub, cache) == found
    assert offline(f"hf://org/support@{COMMIT_1}", tmp_path / "3", hub, cache) == found
    assert offline("hf://org/support", tmp_path / "4", hub, cache)[0] == "source_not_found"
    assert hub.asked == []
    assert (tmp_path / "2" / WEIGHTS).read_bytes() == OLD[WEIGHTS]
    assert not (tmp_path / "2" / WEIGHTS).is_symlink()


def test_offline_an_adapter_of_a_diffusion_model_is_told_by_the_cache(
    hub: HubServer, tmp_path: Path
) -> None:
    from huggingface_hub import hf_hub_download

    header = b'{"lora_te_text_model.lora_down.weight": {"dtype": "F16"}}'
    files = {"v1.safetensors": len(header).to_bytes(8, "little") + header}
    hub.repositories["org/style"] = Repository({"main": COMMIT_1}, {COMMIT_1: files})
    cache = tmp_path / "cache"
    hf_hub_download("org/style", "v1.safetensors", cache_dir=cache, endpoint=hub.url)
    code, detail = offline("hf://org/style", tmp_path / "1", hub, cache)
    assert code == "diffusion_adapter", detail
    assert "kohya" in detail
