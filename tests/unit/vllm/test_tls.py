"""TLS: vLLM's `--ssl-keyfile` and `--ssl-certfile` hold for all routes of the server."""

import asyncio
import socket
import ssl
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from engine.http.uvicorn_protocol import create_http_protocol
from engine.server import serve_forever
from engine.settings import EngineSettings
from engine.vllm.arguments import parse_engine_arguments
from tests.support.certificate import write_certificate


async def test_what_is_served_is_encrypted_with_vllms_own_options(tmp_path: Path) -> None:
    certificate = write_certificate(tmp_path, "localhost")
    given = ["--ssl-keyfile", str(certificate), "--ssl-certfile", str(certificate)]
    arguments: Any = parse_engine_arguments("model", given)
    app = FastAPI()
    app.add_api_route("/healthz", lambda: {})
    engine = SimpleNamespace(vllm_config=None, errored=False, is_running=True)
    server: Any = SimpleNamespace(
        app=app, engine=engine, http=create_http_protocol(EngineSettings())
    )
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = arguments.port = listening.getsockname()[1]
        serving = asyncio.create_task(serve_forever(server, arguments, listening))
        try:
            trusted = ssl.create_default_context(cafile=str(certificate))
            async with httpx.AsyncClient(verify=trusted, trust_env=False) as client:
                answer = await _ask_until_it_answers(client, f"https://localhost:{port}/healthz")
                assert answer.status_code == 200
                with pytest.raises(httpx.TransportError):
                    await client.get(f"http://localhost:{port}/healthz")
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving


async def _ask_until_it_answers(client: httpx.AsyncClient, url: str) -> httpx.Response:
    async with asyncio.timeout(30):
        while True:
            try:
                return await client.get(url)
            except httpx.ConnectError as error:
                if "ssl" in str(error).lower():
                    raise
                await asyncio.sleep(0.02)
