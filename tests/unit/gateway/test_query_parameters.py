"""Query parameters on vLLM's routes: what a route reads, and what clients send with everything."""

from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Query, Request

from engine.console.router import create_console_router
from engine.gateway.query_parameters import refuse_unknown_parameters
from registry.http.problems import ProblemRoute


@pytest.fixture
async def client() -> Any:
    app = FastAPI()
    ours = APIRouter(route_class=ProblemRoute)

    @app.post("/v1/completions")
    @app.post("/v1/messages")
    async def complete() -> None: ...

    @app.post("/sleep")
    async def sleep(level: Annotated[int, Query()] = 1) -> int:
        return level

    @app.post("/wake_up")
    async def wake_up(request: Request) -> list[str]:
        return request.query_params.getlist("tags")

    @app.get("/metrics")
    async def metrics() -> None: ...

    @ours.get("/api/v1/versions")
    async def versions(limit: int = 5) -> int:
        return limit

    @app.get("/docs")
    async def docs() -> None: ...

    @app.get("/health")
    async def health() -> None: ...

    app.include_router(ours)
    app.include_router(create_console_router())
    refuse_unknown_parameters(app.routes, {"/wake_up": frozenset({"tags"})})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        yield client


@pytest.mark.parametrize(
    "url",
    [
        "/v1/completions?api-version=2026-01-01",
        "/v1/messages?beta=true",
        "/sleep?level=1",
        "/wake_up?tags=weights&tags=kv_cache",
    ],
)
async def test_what_is_read_or_sent_by_clients_passes(client: httpx.AsyncClient, url: str) -> None:
    assert (await client.post(url)).status_code == 200


async def test_pages_and_probes_pass_with_what_others_add(client: httpx.AsyncClient) -> None:
    assert (await client.get("/?utm_source=mail")).status_code == 307
    assert (await client.get("/console?utm_source=mail")).status_code == 307
    assert (await client.get("/console/?utm_source=mail")).status_code == 200
    assert (await client.get("/docs?utm_source=mail")).status_code == 200
    assert (await client.get("/openapi.json?v=2")).status_code == 200
    assert (await client.get("/health?_=1796000000")).status_code == 200


async def test_another_is_refused_in_the_routes_dialect(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/completions?foo=1&api-version=2")
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "no such query parameter: foo; this route takes none",
        "type": "BadRequestError",
        "param": "foo",
        "code": "invalid_request",
    }
    answer = await client.post("/v1/messages?foo=1")
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    answer = await client.post("/sleep?levle=2&mode=wait")
    assert answer.status_code == 400
    assert "levle; this route takes level" in answer.json()["error"]["message"]
    assert (await client.post("/sleep?beta=true")).status_code == 400, "of clients of /v1/ only"
    answer = await client.post("/v1/completions?whsec_abcdefghijklmnopqrstuvwxyz=1")
    assert "abcdefgh" not in answer.text
    assert len((await client.post(f"/sleep?{'x' * 5000}=1")).text) < 500
    answer = await client.get("/metrics?foo=1")
    assert answer.status_code == 422
    assert answer.json()["code"] == "invalid_request"


async def test_our_routes_keep_their_own_answer(client: httpx.AsyncClient) -> None:
    assert (await client.get("/api/v1/versions?limit=7")).json() == 7
    assert (await client.get("/api/v1/versions?foo=7")).status_code == 422
