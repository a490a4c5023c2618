"""States of versions and traffic splits, as the engine's clients see them."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from demo.tasks import TASKS, prompt_for

pytestmark = [pytest.mark.engine]

ADAPTERS = Path(__file__).parents[3] / "demo" / "adapters"
WORD = "hello"


def register(server: Any, name: str, *tasks: str) -> None:
    for task in tasks:
        server.register(name, ADAPTERS / task)


def step(server: Any, name: str, number: int, what: str, **body: Any) -> Any:
    return server.client.post(f"/api/v1/adapters/{name}/versions/{number}/{what}", json=body)


def answer(server: Any, model: str, **options: Any) -> str:
    response = server.complete(model, prompt_for(WORD), **options)
    assert response.status_code == 200, response.text
    return str(response.json()["choices"][0]["text"])


def test_a_deprecated_version_answers_with_a_warning_until_it_is_restored(server: Any) -> None:
    register(server, "fading", "upper")
    assert "deprecation" not in server.complete("fading", prompt_for(WORD)).headers
    since = step(server, "fading", 1, "deprecate", reason="use upper").json()["state_changed_at"]
    response = server.complete("fading", prompt_for(WORD))
    assert response.json()["choices"][0]["text"] == TASKS["upper"].answer(WORD)
    assert response.headers["deprecation"] == f"@{int(datetime.fromisoformat(since).timestamp())}"
    assert response.headers["x-adaptry-deprecation"] == "use upper"
    step(server, "fading", 1, "restore")
    assert "deprecation" not in server.complete("fading", prompt_for(WORD)).headers


def test_a_retired_version_refuses_new_requests_and_ends_those_under_way(server: Any) -> None:
    register(server, "leaving", "reverse", "rot13")
    body = {
        "model": "leaving",
        "prompt": "a" * 20,
        "max_tokens": 150,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with server.client.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        assert next(lines).startswith("data: ")
        retired = step(server, "leaving", 1, "retire", move_aliases_to=2, reason="done")
        assert retired.json()["state"] == "retired"
        refused = server.complete("leaving:1", prompt_for(WORD))
        assert refused.status_code == 404
        assert refused.json()["error"]["code"] == "version_retired"
        assert "done" in refused.json()["error"]["message"]
        in_use = step(server, "leaving", 1, "purge")
        assert (in_use.status_code, in_use.json()["code"]) == (409, "version_in_use")
        rest = list(lines)
        assert response.headers["x-adaptry-version"] == "leaving:1"
    *_, last = (line for line in rest if line.startswith("data: {"))
    usage = json.loads(last.removeprefix("data: "))["usage"]
    assert usage["completion_tokens"] == body["max_tokens"], "the stream went on to its end"
    assert "data: [DONE]" in rest
    assert answer(server, "leaving") == TASKS["rot13"].answer(WORD), "the alias has moved"
    assert step(server, "leaving", 1, "purge").status_code == 200
    assert answer(server, "reverse") == TASKS["reverse"].answer(WORD), "it has the same files"


def test_a_quarantined_version_is_not_served_whatever_points_at_it(server: Any) -> None:
    register(server, "broken", "upper")
    assert answer(server, "broken") == TASKS["upper"].answer(WORD)
    step(server, "broken", 1, "quarantine", reason="says HELLO", code="too_loud")
    for model in ("broken", "broken:1", "broken@default"):
        refused = server.complete(model, prompt_for(WORD))
        assert refused.status_code == 409
        assert refused.json()["error"]["code"] == "version_quarantined"
    assert "broken" not in [m["id"] for m in server.client.get("/v1/models").json()["data"]]
    step(server, "broken", 1, "restore")
    assert answer(server, "broken") == TASKS["upper"].answer(WORD)


def test_each_user_of_a_split_alias_gets_the_answers_of_one_version(server: Any) -> None:
    register(server, "canary", "upper", "reverse")
    weights = [{"version": 1, "weight": 1}, {"version": 2, "weight": 1}]
    server.client.put("/api/v1/adapters/canary/aliases/default", json={"weights": weights})
    said = {1: TASKS["upper"].answer(WORD), 2: TASKS["reverse"].answer(WORD)}
    seen = set()
    for n in range(12):
        query = {"reference": "canary", "user": f"user-{n}"}
        expected = server.client.get("/api/v1/resolve", params=query).json()["number"]
        seen.add(expected)
        for _ in range(2):
            assert answer(server, "canary", user=f"user-{n}") == said[expected]
        body = {"model": "canary", "prompt": prompt_for(WORD), "temperature": 0, "user": "other"}
        response = server.client.post(
            "/v1/completions", json=body, headers={"x-adaptry-user": f"user-{n}"}
        )
        assert response.headers["x-adaptry-version"] == f"canary:{expected}"
    assert seen == {1, 2}
    no_user = [
        server.complete("canary", prompt_for(WORD)).headers["x-adaptry-version"] for _ in range(30)
    ]
    assert set(no_user) == {"canary:1", "canary:2"}, "1 in a billion for one of them to be missing"
