"""`adaptry doctor --server`: what an on-call learns of a running server."""

import json
import re
from typing import Any

import pytest

from adaptry.cli import main
from adaptry.client.models import CacheRead, DecisionRead
from adaptry.doctor.findings import Health
from adaptry.doctor.running import explain_decisions
from tests.support.servers.scripted_http import answering

CACHE: dict[str, Any] = {
    "slots": 2,
    "host_capacity": 4,
    "host_bytes": 2**20,
    "host_bytes_limit": None,
    "slots_by_state": {},
    "waiting": 3,
    "loading": [],
    "gpu": [],
    "host": [],
    "hidden": {"gpu": 0, "host": 0},
    "replicas": [],
}
POLICY: dict[str, Any] = {
    "policy": "lru",
    "candidate": None,
    "tiers": [],
    "mend": "With --max-loras 12, 31% more.",
}
HEALTHY = "adaptry_engine_up 1.0\nadaptry_database_up 1.0\nadaptry_thrash_ratio 0.05\n"


def decision(number: int, kind: str, **more: Any) -> dict[str, Any]:
    fields = dict.fromkeys(DecisionRead.model_fields)
    at = f"2026-11-29T02:41:{number:02}Z"
    return {**fields, "id": number, "at": at, "kind": kind, "count": 1, "sentence": kind, **more}


def ask(
    parts: dict[str, str],
    metrics: str,
    decisions: list[dict[str, Any]],
    capsys: pytest.CaptureFixture[str],
) -> tuple[int, str]:
    with answering() as server:
        policy = [POLICY] if re.search(r"thrash_ratio\S* 0\.[45]", metrics) else []
        for answer in ({}, {}, {"parts": parts}, metrics.encode(), *policy, CACHE, CACHE):
            server.will_say(200, answer)
        server.will_say(200, {"items": decisions, "oldest_id": 1, "newest_id": len(decisions)})
        code = main(["doctor", "--server", server.url])
    return code, capsys.readouterr().out


def test_a_healthy_server_is_told_in_six_lines(capsys: pytest.CaptureFixture[str]) -> None:
    found = [decision(1, "looked_up", reference="a:1")]
    code, out = ask({"database": "ok", "engine": "ok", "store": "ok"}, HEALTHY, found, capsys)
    assert code == 0
    lines = out.splitlines()
    assert len(lines) == 6
    assert lines[1] == "ok       parts: database, engine, store answer"
    assert "0 of 2 slots, 0 of 4 places" in lines[3]
    assert "since 2026-11-29 02:41:01Z: 1 version asked for" in lines[4]
    assert lines[5] == "in short: nothing is wrong"


def test_a_part_that_is_away_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = ask({"database": "DatabaseUnavailable: gone", "engine": "ok"}, HEALTHY, [], capsys)
    assert code == 1
    assert "BROKEN   parts: not ready: database: DatabaseUnavailable: gone" in out
    assert out.splitlines()[-1].startswith("in short: broken, not ready: database")


def test_no_key_is_asked_for_where_the_engine_is_away(capsys: pytest.CaptureFixture[str]) -> None:
    away = {"code": "engine_unavailable", "detail": "no server answers"}
    with answering() as server:
        for answer in ({}, {}, {"parts": {"database": "ok"}}, HEALTHY.encode()):
            server.will_say(200, answer)
        for _ in ("cache", "decisions"):
            server.will_say(503, away)
        main(["doctor", "--server", server.url])
    out = capsys.readouterr().out
    assert "warning  cache: can't be read: no server answers [engine_unavailable]" in out
    assert "warning  decisions: can't be read" in out
    assert "fix: see the documentation: Runbooks" in out
    assert "ADAPTRY_API_KEY" not in out


@pytest.mark.parametrize(
    ("metrics", "code", "said"),
    [
        ("adaptry_engine_up 0.0\n", 1, "no engine serves"),
        ("adaptry_database_up 0.0\n", 1, "the database can't be used"),
        ("adaptry_oldest_wait_seconds 31.2\n", 1, "a request has waited 31 s"),
        ("adaptry_ingest_wait_seconds 660.0\n", 0, "has waited 11 minutes for its turn"),
        ("adaptry_rates_counted_alone_total 2.0\n", 0, "2 rates counted by this server alone"),
        ("process_cpu_seconds_total 2.0\n", 0, "/metrics has none of Adaptry's series"),
        ("adaptry_thrash_ratio 0.4\n", 0, "40% of the lookups thrash"),
        (
            'adaptry_drift_total{a="b"} 1.0\nadaptry_drift_total{a="c"} 2.0\n',
            0,
            "3 adapters elsewhere",
        ),
    ],
)
def test_what_an_alert_watches_is_said(
    metrics: str, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found, out = ask({"engine": "ok"}, metrics, [], capsys)
    assert (found, said in out) == (code, True), out


@pytest.mark.parametrize(
    ("values", "code", "said"),
    [
        (("1.0", "0.1", "20"), 0, "nothing that this looks at is wrong now"),
        (("0.0", "0.1", "20"), 1, "1 of 3 engines do not serve"),
        (("1.0", "0.5", "20"), 0, "50% of the lookups thrash"),
        (("1.0", "0.1", "40"), 1, "a request has waited 40 s"),
    ],
)
def test_each_replica_of_a_fleet_is_judged_by_its_own_series(
    values: tuple[str, str, str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the alerts do: three that thrash a little do not thrash much together."""
    names = ("engine_up", "thrash_ratio", "oldest_wait_seconds")
    well = dict(zip(names, ("1.0", "0.1", "20"), strict=True))
    lines = []
    for replica, those in enumerate((well, well, dict(zip(names, values, strict=True)))):
        lines += [f'adaptry_{name}{{replica="{replica}"}} {those[name]}' for name in names]
    found, out = ask({"engine": "ok"}, "\n".join(lines) + "\n", [], capsys)
    assert (found, said in out) == (code, True), out


def test_thrash_is_told_with_the_cheapest_mend(capsys: pytest.CaptureFixture[str]) -> None:
    _, out = ask({"engine": "ok"}, "adaptry_thrash_ratio 0.4\n", [], capsys)
    assert "With --max-loras 12, 31% more." in out


def test_a_server_that_names_no_parts_is_not_well(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = ask({}, HEALTHY, [], capsys)
    assert code == 1
    assert "BROKEN   parts: /readyz answers 200 and names no parts" in out


def test_more_adapters_than_places_are_told_with_the_number_to_raise() -> None:
    asked = [decision(n, "looked_up", reference=f"a{n}:1") for n in range(1, 12)]
    gone = [decision(n, "evicted", reference=f"a{n}:1", tier="host") for n in range(12, 15)]
    items = [DecisionRead.model_validate(each) for each in asked + gone]
    finding = explain_decisions(items, CacheRead.model_validate(CACHE))
    assert finding.health is Health.WARNING
    assert "11 versions asked for, 2 slots and 4 places" in finding.detail
    assert "--max-cpu-loras to 11" in finding.fix


def test_a_server_that_does_not_answer_is_one_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--server", "http://127.0.0.1:1", "--json"]) == 1
    (finding,) = json.loads(capsys.readouterr().out)
    assert (finding["check"], finding["health"]) == ("server", "broken")
