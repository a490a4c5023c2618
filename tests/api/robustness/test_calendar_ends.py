"""Times at the ends of the calendar: refused wherever a time is taken."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[3]

ENDS = ("0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59")


@pytest.mark.both_databases
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize(
    "path", ["/events?since", "/events?until", "/events/export?since", "/adapters/a/aliases/b?at"]
)
async def test_in_a_query(client: httpx.AsyncClient, path: str, end: str) -> None:
    path, _, name = path.partition("?")
    answer = await client.get(path, params={name: end})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.both_databases
@pytest.mark.parametrize("end", ENDS)
async def test_in_a_body(client: httpx.AsyncClient, end: str) -> None:
    answer = await client.post("/adapters/a/aliases/b/rollback", json={"at": end})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.both_databases
async def test_the_last_moment_is_taken(client: httpx.AsyncClient) -> None:
    answer = await client.get("/events", params={"until": "9999-12-31T23:59:59+00:00"})
    assert answer.status_code == 200, answer.text


# ---- wherever a time is taken --------------------------------------------------------------------

TAKEN = {
    *((f"/events{path}", name) for path in ("", "/export") for name in ("since", "until")),
    ("/adapters/{name}/aliases/{alias}", "at"),
    ("/adapters/{name}/aliases/{alias}/rollback", "at"),
    ("/keys", "expires_at"),  # tests/api/auth/test_keys_api.py
    *((f"/cache/history{path}", name) for path in ("", "/decisions") for name in ("from", "to")),
    ("/cache/history/state", "at"),  # tests/api/cache/test_history_api.py
}


def times_of(schema: Any, schemas: dict[str, Any]) -> Iterator[str]:
    """The members of a body that are times."""
    if isinstance(schema, list):
        for each in schema:
            yield from times_of(each, schemas)
    elif isinstance(schema, dict):
        if "$ref" in schema:
            yield from times_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
        for name, member in schema.get("properties", {}).items():
            if "date-time" in json.dumps(member):
                yield name
        for name, member in schema.items():
            if name != "properties":
                yield from times_of(member, schemas)


def test_no_time_is_left_out() -> None:
    """One that a new route takes has to be tested too."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    schemas, found = document["components"]["schemas"], set()
    for path, operations in document["paths"].items():
        for operation in operations.values():
            names = [
                each["name"]
                for each in operation.get("parameters", ())
                if "date-time" in json.dumps(each)
            ]
            names += times_of(operation.get("requestBody", {}), schemas)
            found |= {(path.removeprefix("/api/v1"), name) for name in names}
    assert found == TAKEN
