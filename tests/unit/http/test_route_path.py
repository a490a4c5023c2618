"""The path of a route: guards see the one by which Starlette finds it."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from registry.http.problems import route_path


async def show(request: Request) -> JSONResponse:
    return JSONResponse([f"/{request.path_params['rest']}", route_path(request.scope)])


@pytest.mark.parametrize("root", ["", "/llm", "/ap", "/api", "/v", "/v1", "/llm/"])
@pytest.mark.parametrize("path", ["/api/v1/keys", "/v1/completions", "/llm/v1/models", "/llm/"])
async def test_guards_and_routes_agree_on_the_path(root: str, path: str) -> None:
    app = Starlette(routes=[Route("/{rest:path}", show)])
    transport = httpx.ASGITransport(app, root_path=root)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(path)
    if answer.status_code == 200:
        routed, guarded = answer.json()
        assert guarded == routed
    else:
        assert (root, path) == ("/llm/", "/llm/"), "nothing is left of it"
