"""vLLM's options of its HTTP server hold for all routes: TLS, its ciphers, and the access log."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.http.uvicorn_protocol import create_http_protocol
from engine.server import serve_forever
from engine.settings import EngineSettings
from engine.vllm.arguments import http_options, parse_engine_arguments
from tests.support.certificate import write_certificate

USED, OTHER = "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"


@asynccontextmanager
async def served(*given: str) -> AsyncIterator[int]:
    """The port."""
    arguments: Any = parse_engine_arguments("model", given)
    app = FastAPI()
    for path in ("/healthz", "/other"):
        app.add_api_route(path, lambda: {})
    engine = SimpleNamespace(vllm_config=None, errored=False, is_running=True)
    server: Any = SimpleNamespace(
        app=app, engine=engine, http=create_http_protocol(EngineSettings())
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        arguments.port = listening.getsockname()[1]
        serving = asyncio.create_task(serve_forever(server, arguments, listening))
        try:
            yield arguments.port
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


async def test_what_is_served_is_encrypted_with_vllms_own_options(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path, "localhost")
    given = ["--ssl-keyfile", str(certificate), "--ssl-certfile", str(certificate)]
    async with served(*given, "--ssl-ciphers", USED) as port:
        trusted = ssl.create_default_context(cafile=str(certificate))
        async with httpx.AsyncClient(verify=trusted, trust_env=False) as client:
            answer = await _ask_until_it_answers(client, f"https://localhost:{port}/healthz")
            assert answer.status_code == 200
            with pytest.raises(httpx.TransportError):
                await client.get(f"http://localhost:{port}/healthz")
        trusted.maximum_version = ssl.TLSVersion.TLSv1_2  # later ones have no choice
        statuses = []
        for ciphers in (USED, OTHER):
            trusted.set_ciphers(ciphers)
            async with httpx.AsyncClient(verify=trusted, trust_env=False) as client:
                with suppress(httpx.ConnectError):
                    answer = await client.get(f"https://localhost:{port}/healthz")
                    statuses.append((ciphers, answer.status_code))
        assert statuses == [(USED, 200)]


async def test_routes_are_left_out_of_the_access_log_as_vllm_leaves_them_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    left_out = ("--disable-access-log-for-endpoints", "/healthz,/ping")
    async with served(*left_out) as port, httpx.AsyncClient(trust_env=False) as client:
        for path in ("/healthz", "/other"):
            await _ask_until_it_answers(client, f"http://127.0.0.1:{port}{path}")
    written = "".join(capfd.readouterr())
    assert ("GET /other" in written, "GET /healthz" in written) == (True, False)


def test_certificates_are_read_again_and_connections_kept_as_long_as_vllm_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "77")
    options = http_options(parse_engine_arguments("model", ["--enable-ssl-refresh"]))
    assert (options["enable_ssl_refresh"], options["timeout_keep_alive"]) == (True, 77)
    assert http_options(parse_engine_arguments("model", []))["enable_ssl_refresh"] is False


async def _ask_until_it_answers(client: httpx.AsyncClient, url: str) -> httpx.Response:
    async with asyncio.timeout(30):
        while True:
            try:
                return await client.get(url)
            except httpx.ConnectError as error:
                if "ssl" in str(error).lower():
                    raise
                await asyncio.sleep(0.02)
