"""The trial of replicas: outcomes beside a fault, and targets that its rows reach or miss."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.common.client import Answer, client
from benchmarks.scale.cluster import Cluster
from benchmarks.scale.outcomes import outcomes_of
from benchmarks.scale.replicas import MACHINES
from benchmarks.scale.targets import CHANGES, GOODPUT, LOADS, judge
from benchmarks.scale.trial import Record, Trial
from benchmarks.serving.goodput import is_within
from tests.support.servers.scripted_http import answering

TOLD = 'data: {"error": {"message": "gone", "code": "engine_unavailable"}}'


def answer(**fields: Any) -> Answer:
    return Answer("adapter", 0.0, 4, **fields)


async def asked(*lines: bytes, status: bytes = b"200 OK", cut: bool = False) -> Answer:
    """What the client makes of these lines of a response, whose connection may be cut."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        body = b"".join(line + b"\n\n" for line in lines)
        length = len(body) + (10 if cut else 0)
        writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n" % (status, length))
        writer.write(b"X-Adaptry-Version: adapter:2\r\n\r\n" + body)
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with client(f"http://127.0.0.1:{port}") as asking:
            return await asking.ask("adapter", max_tokens=4)


async def test_the_client_tells_a_whole_stream_from_one_that_ends_with_an_error_or_is_cut() -> None:
    token, end = b'data: {"choices": []}', b"data: [DONE]"
    whole = await asked(token, token, end)
    assert (whole.is_whole, whole.error, len(whole.tokens)) == (True, None, 2)
    assert whole.version == "adapter:2"
    told = await asked(token, TOLD.encode(), end)
    assert (len(told.tokens), (told.error or "").strip()) == (1, TOLD)
    cut = await asked(token, cut=True)
    assert not cut.is_whole
    assert cut.error
    ended = await asked(token)
    refused = await asked(TOLD.encode().removeprefix(b"data: "), status=b"503 Unavailable")
    found = outcomes_of([whole, told, cut, ended, refused])
    assert (found.answered, found.told, found.lost) == (1, 2, 2)


def test_an_answer_with_an_error_or_late_tokens_is_not_within_the_limit() -> None:
    assert is_within(answer(tokens=[0.1]), (0.2, 0.01))
    assert is_within(answer(tokens=[0.1, 0.105]), (0.2, 0.01))
    assert not is_within(answer(tokens=[0.1, 0.15]), (0.2, 0.01))
    assert not is_within(answer(tokens=[0.3]), (0.2, 0.01))
    assert not is_within(answer(tokens=[0.1], error=TOLD), (0.2, 0.01))
    assert not is_within(answer(), (0.2, 0.01))


def rows(two: float, random: int, simulated: int, lost: int) -> dict[str, list[dict[str, object]]]:
    loads = {
        "two replicas, ours": 100,
        "their simulation, ours": simulated,
        "two replicas, random": random,
    }
    rates = [(1, 10.0, "95.0%"), (1, 14.0, "70.0%"), (2, two, "90.0%"), (2, 40.0, "80.0%")]
    return {
        LOADS: [{"routing": name, "loads": count} for name, count in loads.items()],
        GOODPUT: [
            {"replicas": n, "good requests/s": f"{good:.1f}", "within": within}
            for n, good, within in rates
        ],
        CHANGES: [{"what": "kill -9 of one of two replicas", "lost": lost}],
    }


@pytest.mark.parametrize(
    ("found", "reached"),
    [
        (rows(19.0, 150, 103, 0), ["yes", "yes", "yes", "yes"]),
        (rows(18.9, 142, 104, 1), ["no", "no", "no", "no"]),
    ],
)
def test_the_targets_of_the_rows(
    found: dict[str, list[dict[str, object]]], reached: list[str]
) -> None:
    """Rates of which fewer than nine in ten are within the limit are no goodput."""
    judged = judge(found)
    assert [row["reached"] for row in judged] == reached


def test_rows_are_written_as_they_are_finished(tmp_path: Path) -> None:
    record = Record(tmp_path / "rows.json")
    record.add(LOADS, {"routing": "two replicas, ours", "loads": 3})
    assert '"loads": 3' in (tmp_path / "rows.json").read_text()


def test_a_target_whose_rows_are_missing_is_missed() -> None:
    judged = judge({LOADS: [{"routing": "two replicas, ours", "loads": 100}]})
    assert [row["reached"] for row in judged] == ["no", "no"]


@dataclass(frozen=True)
class LingeringCluster(Cluster):
    """One whose replicas go on after they were to end."""

    def deploy(self, replicas: int) -> None:
        """They stay as they are."""

    def pids(self, deployment: str) -> dict[str, int]:
        return {"first": 71, "second": 72}

    def why_not_running(self) -> str:
        return "RUNNING"


async def test_a_replica_that_does_not_end_fails_the_phase_in_place_of_keeping_it(
    tmp_path: Path,
) -> None:
    with answering() as server:
        up = {"replicas": [{"name": "first", "engine_up": True}]}
        server.will_say(200, up, content_type="application/json")
        async with client(server.url) as asking:
            cluster = LingeringCluster(server.url, {}, tmp_path / "switch")
            trial = Trial(MACHINES["cpu"], cluster, asking, Record(None), change_seconds=0.0)
            with pytest.raises(RuntimeError, match="still run: processes 71, 72"):
                await asyncio.wait_for(trial.deploy(1), 30)
