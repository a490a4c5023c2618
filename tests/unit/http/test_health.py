"""Health routes: a live process, one that can serve, and one that still serves from memory."""

import httpx
import pytest
from fastapi import FastAPI

from engine.http.health import create_health_router


class StoreAway(Exception):
    """Stands for any reason."""


async def answers() -> None:
    pass


async def is_away() -> None:
    raise StoreAway("not mounted")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/readyz", 503),
        ("/readyz?without=store", 200),
        ("/readyz?without=database", 503),
        ("/readyz?without=database&without=store", 200),
        ("/readyz?without=cellar", 422),
    ],
)
async def test_a_store_that_is_away_decides_unless_it_is_left_out(path: str, status: int) -> None:
    app = FastAPI()
    app.include_router(
        create_health_router({"engine": answers, "database": answers, "store": is_away})
    )
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get(path)
    assert answer.status_code == status
    if "parts" in answer.text:
        assert answer.json()["parts"]["store"] == "StoreAway: not mounted", "it is told in any case"
