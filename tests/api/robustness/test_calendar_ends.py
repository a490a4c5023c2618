"""Times at the ends of the calendar: refused wherever a time is taken."""

import httpx
import pytest

ENDS = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")

pytestmark = pytest.mark.both_databases


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "path", ["/events?since", "/events?until", "/events/export?since", "/adapters/a/aliases/b?at"]
)
async def test_in_a_query(client: httpx.AsyncClient, path: str, end: str) -> None:
    path, _, name = path.partition("?")
    answer = await client.get(path, params={name: end})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("end", ENDS)
async def test_in_a_body(client: httpx.AsyncClient, end: str) -> None:
    answer = await client.post("/adapters/a/aliases/b/rollback", json={"at": end})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


async def test_the_last_moment_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.get("/events", params={"until": "9999-12-31T23:59:59+00:00"})
    assert answer.status_code == 200, answer.text
