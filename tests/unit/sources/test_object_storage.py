"""Adapters from buckets: a real S3-compatible server, an emulator of Google's storage, Azurite."""

import io
import os
import sys
import tarfile
from pathlib import Path

import pytest

from registry.errors import (
    AddressNotAllowed,
    InvalidAdapter,
    SourceDenied,
    SourceNotFound,
    SourceTooLarge,
    SourceUnavailable,
    SourceUnsupported,
)
from registry.sources.base import FetchLimits, Progress
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from tests.support.adapters.fetch import LOOPBACK, Fetch
from tests.unit.sources.conftest import Put

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
ADAPTER = {CONFIG: b"{}", WEIGHTS: os.urandom(20_000_000)}  # more than two ranges
ALLOWED = ("s3://", "gs://", "azure://")

Bucket = tuple[str, Put]


@pytest.fixture(params=["s3", "gs", "azure"])
def bucket(request: pytest.FixtureRequest) -> Bucket:
    """Each kind in turn, with an adapter in `support/`."""
    names = {"s3": "put_s3", "gs": "put_google", "azure": "put_azure"}
    put: Put = request.getfixturevalue(names[request.param])
    for name, content in ADAPTER.items():
        put(f"support/{name}", content)
    return request.param, put


@pytest.fixture
def fetch(tmp_path: Path) -> Fetch:
    return Fetch(tmp_path, 100_000_000, lambda guard: RemoteSources(ALLOWED, guard))


async def test_a_folder_is_fetched_in_ranges(bucket: Bucket, fetch: Fetch) -> None:
    scheme, put = bucket
    fetched, files = await fetch(f"{scheme}://team/support")
    assert files == ADAPTER
    total = sum(map(len, ADAPTER.values()))
    assert (fetch.progress.bytes_done, fetch.progress.bytes_total) == (total, total)
    put(f"support/{WEIGHTS}", b"other weights")
    again, _ = await fetch(f"{scheme}://team/support/")
    assert fetched.revision
    assert again.revision
    assert fetched.revision != again.revision


async def test_an_archive_is_fetched_and_unpacked(bucket: Bucket, fetch: Fetch) -> None:
    scheme, put = bucket
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in ADAPTER.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    put("archives/support.tar", buffer.getvalue())
    _, files = await fetch(f"{scheme}://team/archives/support.tar")
    assert files == ADAPTER


async def test_names_need_no_escapes(bucket: Bucket, fetch: Fetch) -> None:
    scheme, put = bucket
    put(f"a+b%20c=ü/{CONFIG}", b"{}")
    _, files = await fetch(f"{scheme}://team/a+b%20c=ü")
    assert files == {CONFIG: b"{}"}


async def test_a_pickle_is_noted_but_not_fetched(bucket: Bucket, fetch: Fetch) -> None:
    scheme, put = bucket
    put(f"old/{PICKLE}", b"x" * 1000)
    _, files = await fetch(f"{scheme}://team/old")
    assert files == {PICKLE: b""}


@pytest.mark.parametrize("where", ["team/style", "team/style/any-name.safetensors"])
async def test_an_adapter_of_a_diffusion_model_is_told_by_its_tensors(
    bucket: Bucket, fetch: Fetch, where: str
) -> None:
    scheme, put = bucket
    header = b'{"lora_te_text_model.lora_down.weight": {"dtype": "F16"}}'
    put("style/any-name.safetensors", len(header).to_bytes(8, "little") + header)
    put("style/README.md", b"r")
    with pytest.raises(InvalidAdapter, match=r"any-name\.safetensors.*kohya") as caught:
        await fetch(f"{scheme}://{where}")
    assert caught.value.code == "diffusion_adapter"


async def test_of_a_folder_with_very_many_objects_only_the_first_are_listed(
    bucket: Bucket, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("object_storage", "azure_blobs"):
        monkeypatch.setattr(f"registry.sources.{module}.MAX_LISTED", 3)
    scheme, put = bucket
    header = b'{"lora_te_text_model.lora_down.weight": {"dtype": "F16"}}'
    for name in ("a", "b", "c/d", "e", "f.safetensors"):
        put(f"many/{name}", len(header).to_bytes(8, "little") + header)
    with pytest.raises(SourceNotFound, match=f"{scheme}://team/many holds no adapter"):
        await fetch(f"{scheme}://team/many")


@pytest.mark.parametrize("where", ["team/none", "team/none.tar", "nobody-has-this/a", "team"])
async def test_nothing_there_is_not_found(bucket: Bucket, fetch: Fetch, where: str) -> None:
    with pytest.raises(SourceNotFound):
        await fetch(f"{bucket[0]}://{where}")


async def test_too_large_is_known_before_it_comes(bucket: Bucket, fetch: Fetch) -> None:
    fetch.limits = FetchLimits(1_000_000)
    with pytest.raises(SourceTooLarge):
        await fetch(f"{bucket[0]}://team/support")
    assert fetch.progress.bytes_done == len(ADAPTER[CONFIG])


async def test_a_private_address_is_not_called(bucket: Bucket, fetch: Fetch) -> None:
    with pytest.raises(AddressNotAllowed, match=r"127\.0\.0\.1"):
        await fetch(f"{bucket[0]}://team/support", EgressGuard())


async def test_an_object_that_changes_while_it_is_read_is_read_again_later(
    bucket: Bucket, fetch: Fetch
) -> None:
    scheme, put = bucket

    class Meanwhile(Progress):
        def advance(self, more_bytes: int) -> None:
            super().advance(more_bytes)
            if more_bytes > len(ADAPTER[CONFIG]):
                put(f"support/{WEIGHTS}", os.urandom(len(ADAPTER[WEIGHTS])))

    into = fetch._folder / "into"
    into.mkdir()
    _, source = RemoteSources(ALLOWED, LOOPBACK).open(f"{scheme}://team/support")
    with pytest.raises(SourceUnavailable, match="changed"):
        await source.fetch(into, fetch.limits, Meanwhile())


async def test_without_credentials_s3_is_denied(
    put_s3: Put, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(SourceDenied, match="credentials"):
        await fetch("s3://team/support")


async def test_an_unreachable_server_is_a_transient_error(
    put_s3: Put, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(SourceUnavailable):
        await fetch("s3://team/support")


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://team/a", "s3fs", "adaptry[s3]"),
        ("gs://team/a", "gcsfs.core", "adaptry[gcs]"),
        ("azure://team/a", "azure.storage.blob", "adaptry[azure]"),
    ],
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    monkeypatch.delitem(sys.modules, "registry.sources.azure_blobs", raising=False)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SourceUnsupported) as caught:
        RemoteSources(ALLOWED, EgressGuard()).open(url)
    assert extra in caught.value.detail
