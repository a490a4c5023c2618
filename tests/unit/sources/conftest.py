"""Object stores on loopback: moto's S3, an emulator of Google's storage, Azurite."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest
from azure.core.exceptions import ResourceExistsError
from azure.storage.blob import BlobServiceClient

from tests.support.registries import azurite

START_SECONDS = 60

Put = Callable[[str, bytes], None]


@contextmanager
def process(*command: str) -> Iterator[int]:
    """A server on a port of its own, once it listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    arguments = [part.format(port=port) for part in command]
    child = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not listens(port):
            assert child.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port
    finally:
        child.terminate()
        child.wait(10)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def s3_port() -> Iterator[int]:
    with process(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "{port}") as port:
        yield port


@pytest.fixture(scope="module")
def google_port() -> Iterator[int]:
    command = ("start", "--host", "127.0.0.1", "--port", "{port}", "--in-memory")
    bucket = ("--default-bucket", "team")
    with process(sys.executable, "-m", "gcp_storage_emulator", *command, *bucket) as port:
        yield port


@pytest.fixture(scope="module")
def azure_port() -> Iterator[int]:
    if not azurite.PROGRAM.exists():
        pytest.skip("Azurite is missing: make azurite")
    with process(*azurite.COMMAND) as port:
        yield port


@pytest.fixture
def put_s3(s3_port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Put:
    """The bucket `team`, and an environment that leads to it."""
    url = f"http://127.0.0.1:{s3_port}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    reset = urllib.request.Request(f"{url}/moto-api/reset", method="POST")
    urllib.request.urlopen(reset).close()
    client = boto3.client("s3")
    client.create_bucket(Bucket="team")
    return lambda key, content: client.put_object(Bucket="team", Key=key, Body=content) and None


@pytest.fixture
def put_google(google_port: int, monkeypatch: pytest.MonkeyPatch) -> Put:
    url = f"http://127.0.0.1:{google_port}"
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", url)
    monkeypatch.setattr("fsspec.config.conf", {"gs": {"token": "anon"}})

    def put(key: str, content: bytes) -> None:
        request = urllib.request.Request(
            f"{url}/upload/storage/v1/b/team/o?uploadType=media&name={quote(key, safe='')}",
            data=content,
            headers={"Content-Type": "application/octet-stream"},
        )
        urllib.request.urlopen(request).close()

    return put


@pytest.fixture
def put_azure(azure_port: int, monkeypatch: pytest.MonkeyPatch) -> Put:
    for name in [name for name in os.environ if name.startswith("AZURE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", azurite.connection_string(azure_port))
    service = BlobServiceClient.from_connection_string(azurite.connection_string(azure_port))
    with suppress(ResourceExistsError):
        service.create_container("team")

    def put(key: str, content: bytes) -> None:
        service.get_blob_client("team", key).upload_blob(content, overwrite=True)

    return put
