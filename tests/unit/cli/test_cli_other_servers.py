"""Servers that a command did not mean: without an engine, of something else, without a key."""

import json

import pytest

from adaptry.client.models import CacheRead
from tests.support.servers.scripted_http import answering
from tests.support.servers.web import WebServer, web_server
from tests.unit.cli.conftest import NO_ITEMS, Run

ENGINES = ["cache show", "cache why upper", "why upper", "cache top --once", "size", "trace export"]
REGISTRY = ["adapter list", "whoami", "job show 1", "events list", "events tail"]


@pytest.mark.parametrize("line", ENGINES)
def test_a_server_without_an_engine_is_told_from_others(line: str, run: Run, server: str) -> None:
    code, out, err = run(line, server)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"adaptry: {server} has no engine, and so no cache: ask a server that")


@pytest.mark.parametrize("line", [*ENGINES, *REGISTRY])
def test_a_server_of_something_else_is_named(line: str, run: Run, other: WebServer) -> None:
    code, out, err = run(line, other.url)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert f"what answers at {other.url} is no server of Adaptry: name one with --server" in err


@pytest.mark.parametrize("line", ["cache show", "why upper", "trace export", *REGISTRY[:3]])
@pytest.mark.parametrize("answer", [b"[]\n", b"<html>\n"])
def test_a_page_of_something_else_is_no_answer(
    line: str, answer: bytes, run: Run, other: WebServer
) -> None:
    for path in ("adapters", "cache", "cache/why/upper", "cache/trace", "jobs/1", "whoami"):
        other.file(f"/api/v1/{path}", answer)
    code, out, err = run(line, other.url)
    assert (code, out, err.count("\n")) == (1, "", 1), err
    assert f"what answers at {other.url} is no server of Adaptry" in err


UP, DOWN = {"name": "one", "engine_up": True}, {"name": "two", "engine_up": False}


@pytest.mark.parametrize(
    ("replicas", "is_up", "said"),
    [
        ([], True, None),
        ([], False, "the engine is down or asleep: nothing is in memory, and requests are refused"),
        ([UP], True, None),
        ([UP, DOWN], True, "the engine of two is down: nothing is in memory there"),
        ([DOWN], False, "the engine of two is down: nothing is in memory there"),
    ],
)
@pytest.mark.parametrize("line", ["cache show", "cache top --once"])
def test_free_slots_of_an_engine_that_is_down_are_not_all_that_is_said(
    line: str, replicas: list[dict[str, object]], is_up: bool, said: str | None, run: Run
) -> None:
    sizes: dict[str, object] = {"slots": 2, "host_capacity": 4, "host_bytes": 0}
    sizes |= {"host_bytes_limit": None, "slots_by_state": {"free": 2}, "waiting": 0}
    cache = {**sizes, "loading": [], "gpu": [], "host": [], "hidden": {"gpu": 0, "host": 0}}
    cache |= {"engine_up": is_up, "replicas": [{**sizes, **each} for each in replicas]}
    decided: dict[str, object] = {"items": [], "oldest_id": None, "newest_id": 0}
    with web_server() as server:
        server.file("/api/v1/cache", json.dumps(cache).encode())
        server.file("/api/v1/cache/decisions", json.dumps(decided).encode())
        code, out, err = run(line, server.url)
    assert (code, err) == (0, "")
    downs = [each for each in out.splitlines() if "the engine" in each]
    assert downs == ([] if said is None else [said])


def test_what_a_server_of_ours_can_not_do_is_not_for_want_of_an_engine(
    run: Run, other: WebServer
) -> None:
    cache = {**dict.fromkeys(CacheRead.model_fields), "slots": 2, "host_capacity": 4}
    cache |= {"host_bytes": 0, "slots_by_state": {}, "waiting": 0, "loading": [], "replicas": []}
    cache |= {"gpu": [], "host": [], "hidden": {"gpu": 0, "host": 0}, "engine_up": True}
    other.file("/api/v1/cache", json.dumps(cache).encode())
    other.file("/api/v1/adapters", NO_ITEMS)
    code, _, err = run("trace export", other.url)
    assert (code, err.count("\n")) == (1, 1)
    assert f"{other.url} can't do this: it is of another release, or several engines" in err


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("key_required", "this server needs an API key: set ADAPTRY_API_KEY to one"),
        ("invalid_key", "the key in ADAPTRY_API_KEY is unknown, expired or revoked: who may"),
    ],
)
def test_who_lacks_a_key_is_told_the_variable(code: str, said: str, run: Run) -> None:
    with answering() as server:
        server.will_say(401, {"code": code, "detail": "send Authorization: Bearer adp_…"})
        failed, out, err = run("whoami", server.url)
    assert (failed, out, err.count("\n")) == (1, "", 1)
    assert said in err
    assert f"[{code}]" in err
    assert "Bearer" not in err


def test_doctor_asks_for_no_key_where_another_server_answers(run: Run, other: WebServer) -> None:
    code, out, _ = run("doctor", other.url)
    assert code == 1
    assert f"BROKEN   server: {other.url}/healthz answers 404" in out
    other.file("/healthz", b"{}")
    code, out, _ = run("doctor", other.url)
    assert code == 1
    assert "see whether `adaptry serve` runs there" in out
    assert "ADAPTRY_API_KEY" not in out


def test_a_server_without_a_base_model_rechecks_nothing(run: Run, other: WebServer) -> None:
    other.file("/api/v1/bases", json.dumps({"items": []}).encode())
    code, out, err = run("adapter recheck", other.url)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "serves no base model: name a server that does, with --server URL" in err


def test_where_nothing_listens_no_number_of_an_error_is_told(run: Run) -> None:
    code, _, err = run("cache show", "http://127.0.0.1:1")
    assert code == 1
    assert "no answer from http://127.0.0.1:1: Connection refused. Is `adaptry serve`" in err
    assert "Errno" not in err
