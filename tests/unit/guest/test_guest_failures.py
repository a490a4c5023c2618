"""What a guest says of a failure: the true one, to clients without addresses and paths."""

import resource
import signal
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adaptry.client import Client, unpack_version
from guest.failures import Cause, Failure, failure_of
from registry.storage.local_copy import LocalCopyCache
from registry.storage.tar import Entry, tar_chunks
from tests.support.certificate import write_certificate
from tests.support.servers.scripted_http import answering


def failure(doing: Callable[[], object]) -> Failure:
    with pytest.raises(Exception) as met:  # noqa: PT011  # which one is what is tested
        doing()
    found = failure_of(met.value)
    assert len(found.detail.splitlines()) == 1
    return found


def asking(url: str) -> Failure:
    with Client(url) as client:
        return failure(lambda: client.versions.resolve("bot"))


def answered(status: int, content: object) -> Failure:
    with answering() as registry:
        registry.will_say(status, content)
        return asking(registry.url)


def problem(status: int, code: str) -> dict[str, object]:
    return {"status": status, "code": code, "detail": "in its words"}


@pytest.mark.parametrize(
    ("status", "content", "cause", "says"),
    [
        (401, problem(401, "key_unknown"), Cause.KEY, "refuses this server's key: in its words"),
        (403, problem(403, "scope_missing"), Cause.KEY, "refuses this server's key: in its words"),
        (503, problem(503, "database_unavailable"), Cause.REGISTRY, "answers 503: in its words"),
        (500, b"<html>", Cause.REGISTRY, "answers 500: Internal Server Error"),
        (429, problem(429, "rate_exceeded"), Cause.REGISTRY, "answers 429: in its words"),
        (200, b"<html>", Cause.REGISTRY, "is no registry"),
    ],
)
def test_an_answer_is_not_called_silence(
    status: int, content: object, cause: Cause, says: str
) -> None:
    found = answered(status, content)
    assert found.cause == cause
    assert says in found.said
    assert "does not answer" not in found.said


def test_silence_has_its_reason(unused_tcp_port: int) -> None:
    found = asking(f"http://127.0.0.1:{unused_tcp_port}")
    assert (found.cause, found.said) == (
        Cause.REGISTRY,
        "the registry does not answer: Connection refused",
    )
    assert str(unused_tcp_port) in found.detail
    unknown = asking("http://registry.invalid")
    assert unknown.said.startswith("the registry does not answer: ")
    assert "name" in unknown.said.lower(), "the name can't be resolved"


def test_a_certificate_that_is_not_trusted_is_said(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(write_certificate(tmp_path, "localhost"))
    with answering() as registry:
        plain = registry.socket
        registry.socket = context.wrap_socket(plain, server_side=True)
        found = asking(registry.url.replace("http://127.0.0.1", "https://localhost"))
    assert found.cause == Cause.REGISTRY
    assert "certificate" in found.said.lower()


FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x" * 4096}


def unpack(folder: Path) -> None:
    content = b"".join(tar_chunks(Entry(name, bytes_) for name, bytes_ in FILES.items()))
    unpack_version(iter([content]), "0" * 64, folder)


def test_a_download_that_stands_still_is_given_up() -> None:
    """Other guests may wait for the same files."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as thread:

        def serve() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nxx")
                connection.recv(4096)  # until the client leaves

        serving = thread.submit(serve)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with Client(url, timeout_seconds=0.5) as client:

            def fetch() -> list[bytes]:
                with client.versions.download("bot:1") as chunks:
                    return list(chunks)

            found = failure(fetch)
        serving.result(30)
    assert found.cause == Cause.REGISTRY
    assert "timed out" in found.said.lower() or "timeout" in found.said.lower()


def test_what_arrives_damaged_is_the_downloads(tmp_path: Path) -> None:
    found = failure(lambda: unpack(tmp_path / "copy"))
    assert (found.cause, found.said) == (
        Cause.DOWNLOAD,
        "the download is not what was registered: its digest differs",
    )


def test_a_disk_that_takes_no_more_is_not_the_registrys(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # not one more byte
    try:
        found = failure(lambda: unpack(tmp_path / "copy"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handled)
    assert (found.cause, found.said) == (
        Cause.DISK,
        "this server can't write its files: File too large",
    )
    assert str(tmp_path) in found.detail, "the log says where"


def test_a_folder_that_can_not_be_made_is_not_the_registrys(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    files = LocalCopyCache(tmp_path / "file" / "guest", 1000)
    found = failure(lambda: files.folder_of("0" * 64, unpack))
    assert (found.cause, found.said) == (
        Cause.DISK,
        "this server can't use its files: Not a directory",
    )


def test_what_vllm_says_becomes_one_line() -> None:
    found = failure_of(ValueError("no such\n  module"))
    assert (found.cause, found.said) == (
        Cause.ENGINE,
        "vLLM can't serve it: no such module",
    )
