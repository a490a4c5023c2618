"""What many tests of the API do and look at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

AdapterMaker = Callable[..., Path]


async def publish(
    client: httpx.AsyncClient, name: str, source: Path, **details: Any
) -> httpx.Response:
    return await client.post(f"/adapters/{name}/versions", json={"source": str(source), **details})


async def publish_some(
    client: httpx.AsyncClient, make_adapter: AdapterMaker, name: str, count: int
) -> None:
    """Versions 1 to `count`, each with weights of its own."""
    for n in range(count):
        response = await publish(client, name, make_adapter(f"{name}-{n}", seed=n))
        assert response.status_code == 201, response.text


async def step(client: httpx.AsyncClient, reference: str, what: str, **body: Any) -> httpx.Response:
    """`retire`, `purge`, …"""
    name, _, number = reference.partition(":")
    path = f"/adapters/{name}/versions/{number}"
    response = await client.post(f"{path}/{what}", json=body)
    if response.status_code == 200:
        recorded = response.json()
        assert recorded.get("version", recorded) == (await client.get(path)).json()
    return response


async def resolved(client: httpx.AsyncClient, reference: str) -> int:
    response = await client.get("/resolve", params={"reference": reference})
    assert response.status_code == 200, response.text
    return int(response.json()["number"])


async def kinds(client: httpx.AsyncClient, name: str) -> list[str]:
    events = (await client.get(f"/adapters/{name}/events", params={"limit": 500})).json()
    return [event["kind"] for event in events["items"]]


def assert_problem(response: httpx.Response, status: int, code: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == response.request.url.path
