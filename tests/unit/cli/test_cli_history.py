"""`adaptry cache history`: times as people write them, and what it prints of a recorded night."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from adaptry.client import InvalidRequest
from adaptry.client.models import HistoryRead, PastDecisionList, PastRead, UnknownRead
from adaptry.terminal.errors import UsageError
from adaptry.top import history

AT = "2026-11-30T02:50:00Z"
OLDEST = datetime(2026, 11, 29, 9, tzinfo=UTC)


@pytest.fixture
def in_utc() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("02:50", "2026-11-30T02:50:00Z"),
        ("02:50:30", "2026-11-30T02:50:30Z"),
        ("23:10", "2026-11-29T23:10:00Z"),
        ("2026-11-29T14:00", "2026-11-29T14:00:00Z"),
        ("2026-11-29 14:00:01", "2026-11-29T14:00:01Z"),
        ("2026-11-29T14:00:00+0200", "2026-11-29T12:00:00Z"),
    ],
)
@pytest.mark.usefixtures("in_utc")
def test_a_time_of_day_is_the_last_one(given: str, meant: str) -> None:
    now = datetime(2026, 11, 30, 9, tzinfo=UTC)
    assert history.parse_time(given, now) == datetime.fromisoformat(meant)


def test_what_is_no_time_is_said_to_be_none() -> None:
    with pytest.raises(UsageError, match="yesterday is no time"):
        history.parse_time("yesterday", datetime.now(UTC))


RESIDENT = {
    "reference": "upper:3",
    "adapter": "upper",
    "version_id": 7,
    "rank": 8,
    "size_bytes": 100,
    "host_bytes": None,
    "slot": 0,
    "pinned": None,
    "since": "2026-11-30T02:31:07Z",
    "leases": 1,
    "waiting": 0,
    "leaving": False,
}
CACHE: dict[str, Any] = {
    "slots": 2,
    "host_capacity": 4,
    "host_bytes_limit": None,
    "engine_up": True,
    "exact": True,
    "sampled_at": AT,
    "waiting": 1,
    "gpu": [RESIDENT],
    "host": [RESIDENT],
    "loading": [],
    "waits": [
        {"reference": "stars:1", "since": AT, "until": AT, "seconds": 1.5, "outcome": "miss"}
    ],
    "hidden": {"gpu": 1, "host": 0, "loading": 0},
}
EVICTED = {
    "id": 1,
    "at": "2026-11-30T02:49:58Z",
    "kind": "evicted",
    "adapter": "vowels",
    "reference": "vowels:1",
    "version_id": 9,
    "sentence": "evicted from GPU slot 0 for upper:3",
}


class Recorded:
    """The client of a server that answers with what it was given."""

    def __init__(self, past: dict[str, Any], *replicas: str) -> None:
        self.cache, self._past, self._replicas = self, past, list(replicas)
        self.asked: dict[str, Any] = {}

    def state_at(self, at: datetime, *, of: str | None) -> PastRead:
        here = {"server": of or "here", "replicas": self._replicas, "at": AT, "unknown": None}
        return PastRead.model_validate(here | self._past)

    def past_decisions(self, *, since: datetime, **_: Any) -> PastDecisionList:
        if since < OLDEST:
            raise InvalidRequest(422, "time_out_of_range", "it goes back 24 hours")
        self.since = since
        more = [{"since": AT, "at": AT, "count": 41}]
        page = {"server": "here", "items": [EVICTED], "more": more, "next": None}
        return PastDecisionList.model_validate(page)

    def history(self, **asked: Any) -> HistoryRead:
        self.asked = asked
        known = {"at": AT, "recorded_seconds": 60, "hits": 5, "misses": 2, "evictions": 1}
        found = {"server": asked["of"] or "here", "servers": ["here"], "keep_hours": 24}
        found |= {"replicas": self._replicas, "oldest": OLDEST}
        gap = {"since": AT, "until": None}
        found |= {"since": AT, "until": AT, "bucket_seconds": 3600, "grafana": None}
        return HistoryRead.model_validate(
            found | {"buckets": [known, {"at": AT, "recorded_seconds": 0}], "unknown": [gap]}
        )


def shown(past: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> list[str]:
    client: Any = Recorded(past)
    history._show_state(client, datetime.fromisoformat(AT), 30, None, as_json=False)
    return capsys.readouterr().out.splitlines()


def test_the_slots_of_a_time_and_who_evicted_whom(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown({"cache": CACHE}, capsys)
    assert lines[0] == "2026-11-30 02:50:00Z on here: GPU slots 2 of 2, host 1 of 4, 1 waiting"
    assert lines[3].split() == ["0", "upper:3", "2026-11-30", "02:31:07Z", "-", "1", "0"]
    assert "stars:1     2026-11-30 02:50:00Z     1.50  miss" in lines
    assert lines[-2:] == [
        "02:49:58Z  vowels:1  evicted from GPU slot 0 for upper:3",
        "02:50:00Z  41 more decisions in this second",
    ]


def test_a_margin_that_reaches_back_beyond_the_oldest_begins_there() -> None:
    client: Any = Recorded({"cache": CACHE})
    at = OLDEST + timedelta(seconds=10)
    history._show_state(client, at, 3600, None, as_json=False)
    assert client.since == OLDEST
    history._show_state(client, at, 5, None, as_json=False)
    assert client.since == at - timedelta(seconds=5)


def test_a_time_of_which_nothing_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = {"since": "2026-11-30T01:00:00Z", "until": None}
    lines = shown({"cache": None, "unknown": unknown}, capsys)
    assert lines[1].startswith("nothing is recorded from 2026-11-30 01:00:00Z: the server did not")


def test_the_counts_of_a_day_with_question_marks_where_it_is_not_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    client: Any = Recorded({})
    history._show_timeline(client, 24, None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "here, in UTC, in steps of 60 min"
    assert lines[3].split() == ["11-30", "02:50", "5", "0", "2", "0", "1", "0", "0.00", "s"]
    assert lines[4].split() == ["11-30", "02:50", *["?"] * 7]
    assert lines[-1].startswith("nothing is recorded from")
    assert client.asked.pop("since") is None, "who keeps less would refuse it"
    history._show_timeline(client, 6, None, as_json=False)
    assert client.asked.pop("since") < datetime.now(UTC)


def test_each_replica_of_a_fleet_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = Recorded({"cache": CACHE}, "here", "there")
    at = datetime.fromisoformat(AT)
    history._show_state(client, at, 30, None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    heads = [line.split(":")[2] for line in lines if "GPU slots 2 of 2" in line]
    assert heads == ["00Z on here", "00Z on there"]
    assert len([line for line in lines if "evicted from GPU slot 0 for upper:3" in line]) == 2
    history._show_timeline(client, 24, None, as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if ", in UTC, in steps" in line] == [
        "here, in UTC, in steps of 60 min",
        "there, in UTC, in steps of 60 min",
    ]
    history._show_timeline(client, 24, "there", as_json=False)
    assert capsys.readouterr().out.count("in UTC, in steps") == 1


END, SHOWN_END = "2026-11-30T17:24:15Z", "2026-11-30 17:24:15Z"


@pytest.mark.parametrize(
    ("since", "until", "said"),
    [
        (None, END, f"nothing is recorded before {SHOWN_END}: "),
        (END, None, f"nothing is recorded from {SHOWN_END}: "),
        (END, END, f"nothing is recorded from {SHOWN_END} to {SHOWN_END}: "),
        (None, None, "nothing is recorded: "),
    ],
)
def test_a_gap_is_told_by_its_ends(since: str | None, until: str | None, said: str) -> None:
    gap = UnknownRead.model_validate({"since": since, "until": until})
    assert history._gap(gap).startswith(said)
