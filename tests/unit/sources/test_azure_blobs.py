"""Azure's blobs beyond what all object stores share: accounts, credentials, spellings."""

import logging

import pytest
from azure.storage.blob import BlobServiceClient, ContentSettings

from registry.errors import (
    AddressNotAllowed,
    InvalidSource,
    RegistryError,
    SourceDenied,
    SourceNotAllowed,
    SourceUnavailable,
)
from registry.sources.egress_guard import EgressGuard
from registry.sources.registry import RemoteSources
from tests.support.adapters.fetch import Fetch
from tests.support.registries import azurite
from tests.unit.sources.conftest import Put

CONFIG = "adapter_config.json"


@pytest.fixture
def fetch(tmp_path_factory: pytest.TempPathFactory) -> Fetch:
    folder = tmp_path_factory.mktemp("azure")
    return Fetch(folder, 100_000_000, lambda guard: RemoteSources(("azure://",), guard))


@pytest.mark.parametrize("scheme", ["az", "abfs", "abfss", "azure"])
async def test_every_spelling_of_the_scheme_is_read(
    put_azure: Put, fetch: Fetch, scheme: str
) -> None:
    put_azure(f"spelled/{CONFIG}", b"{}")
    _, files = await fetch(f"{scheme}://team/spelled")
    assert files == {CONFIG: b"{}"}


def test_a_rule_counts_for_every_spelling() -> None:
    sources = RemoteSources(("az://team/support",), EgressGuard())
    url, _ = sources.open("abfss://team/support/a")
    assert str(url) == "azure://team/support/a"
    with pytest.raises(SourceNotAllowed):
        sources.open("azure://team/other")


def test_a_tenant_reads_only_below_its_name() -> None:
    sources = RemoteSources(("azure://",), EgressGuard())
    sources.open("azure://team/acme/a", within="acme")
    with pytest.raises(SourceNotAllowed):
        sources.open("azure://team/other/a", within="acme")


@pytest.mark.parametrize(
    "url",
    [
        "abfss://team@account.dfs.core.windows.net/a",
        "azure://user@team/a",
        "azure://Team/a",
        "azure://te/a",
        "azure://a--b/a",
        "azure://127.0.0.1:80/a",
    ],
)
def test_only_a_container_is_named(url: str) -> None:
    with pytest.raises(InvalidSource):
        RemoteSources(("azure://",), EgressGuard()).open(url)


async def test_a_wrong_key_is_denied_and_shown_nowhere(
    put_azure: Put,
    azure_port: int,
    fetch: Fetch,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    put_azure(f"support/{CONFIG}", b"{}")
    secret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
    text = azurite.connection_string(azure_port).replace(azurite.KEY, secret)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceDenied, match="403") as caught:
        await fetch("azure://team/support")
    assert secret not in caught.value.detail
    assert secret not in caplog.text


@pytest.mark.parametrize("connection", [None, "nonsense-with-secret"])
async def test_without_a_usable_account_it_is_denied(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch, connection: str | None
) -> None:
    for name in ("AZURE_STORAGE_CONNECTION_STRING", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    if connection:
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection)
    with pytest.raises(SourceDenied, match="AZURE_STORAGE_") as caught:
        await fetch("azure://team/support")
    assert "secret" not in caught.value.detail


async def test_a_shared_access_signature_is_used_and_shown_nowhere(
    put_azure: Put, fetch: Fetch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Towards an account whose name leads to a private address: it gets no request."""
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "127.0.0.1:1/x")
    monkeypatch.setenv("AZURE_STORAGE_SAS_TOKEN", "sv=2024&sig=topsecret")
    with caplog.at_level(logging.DEBUG), pytest.raises(RegistryError) as caught:
        await fetch("azure://team/support", EgressGuard())
    assert isinstance(caught.value, AddressNotAllowed)
    assert "topsecret" not in caught.value.detail
    assert "topsecret" not in caplog.text


async def test_an_encoded_blob_is_refused(put_azure: Put, azure_port: int, fetch: Fetch) -> None:
    service = BlobServiceClient.from_connection_string(azurite.connection_string(azure_port))
    service.get_blob_client("team", f"zipped/{CONFIG}").upload_blob(
        b"{}", overwrite=True, content_settings=ContentSettings(content_encoding="gzip")
    )
    with pytest.raises(InvalidSource, match="Content-Encoding"):
        await fetch("azure://team/zipped")


async def test_an_unreachable_account_is_a_transient_error(
    fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string(1))
    with pytest.raises(SourceUnavailable):
        await fetch("azure://team/support")
