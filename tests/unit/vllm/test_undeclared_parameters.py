"""Query parameters that no route declares, but that are read or sent."""

import httpx
import pytest
from fastapi import FastAPI, Request

from engine.gateway.query_parameters import refuse_unknown_parameters


@pytest.mark.parametrize(
    ("path", "query", "status"),
    [
        ("/sleep", "level=1&mode=wait", 200),  # vLLM 0.26 declares none of them
        ("/sleep", "levle=1", 400),
        ("/v1/models", "client_version=0.133.0", 200),  # Codex
        ("/v1/models", "after=bot&limit=5", 200),
        ("/v1/models", "limits=5", 400),
        ("/metrics", "name[]=vllm:num_requests_running", 200),
    ],
)
async def test_they_pass_and_others_do_not(path: str, query: str, status: int) -> None:
    app = FastAPI()

    @app.get(path)
    async def answer(request: Request) -> dict[str, str]:
        return dict(request.query_params)

    refuse_unknown_parameters(app.routes)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert (await client.get(f"{path}?{query}")).status_code == status
