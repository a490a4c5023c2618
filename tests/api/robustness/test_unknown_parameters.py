"""Unknown query parameters are refused: a filter that is not known must not seem to filter."""

import httpx
from fastapi import FastAPI
from httpx import ASGITransport

from tests.api.helpers import assert_problem
from tests.api.keyed_client import Asked


async def test_an_unknown_query_parameter_is_refused_with_its_name_and_the_known_ones(
    client: httpx.AsyncClient,
) -> None:
    answer = await client.get("/versions", params={"adapter": "x", "limit": 5})
    assert_problem(answer, 422, "invalid_request")
    assert answer.json()["errors"] == [
        {"field": "query.adapter", "message": "no such query parameter"}
    ]
    assert "limit" in answer.json()["detail"]
    assert (await client.get("/versions", params={"limit": 5})).status_code == 200


async def test_a_changing_route_refuses_it_before_it_changes_anything(asked: Asked) -> None:
    body = {"name": "acme"}
    refused = await asked.ask("root", "POST", "/tenants?dry_run=1", json=body)
    assert_problem(refused, 422, "invalid_request")
    assert (await asked.ask("root", "GET", "/tenants/acme")).status_code == 404


async def test_every_route_of_the_registry_refuses_it(app: FastAPI) -> None:
    transport = ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        paths = app.openapi()["paths"]
        assert len(paths) > 30
        for path, methods in paths.items():
            for method in methods:
                url = path.replace("{", "x").replace("}", "")
                unknown = {"no_such_filter": "1"}
                answer = await client.request(method, url, params=unknown, json={})
                assert answer.status_code == 422, (method, path, answer.text)
                assert "no_such_filter" in answer.json()["detail"], (method, path)
