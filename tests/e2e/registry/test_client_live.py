"""Both Python clients and the commands on the cache, against the real engine."""

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from adaptry.cli import main
from adaptry.client import AsyncClient, Client, Conflict, InvalidRequest, NotFound
from adaptry.client.models import DecisionRead
from demo.tasks import TASKS
from tests.conftest import ROOT

pytestmark = [pytest.mark.engine]

SECOND = str(ROOT / "demo" / "adapters-v2" / "upper")


def test_the_cache_is_seen_and_steered(server: Any) -> None:
    with Client(server.base_url) as client:
        assert client.is_ready()
        assert client.generate("hello=", model="upper", max_tokens=16, temperature=0).text == [
            "HELLO"
        ]
        pinned = client.cache.pin("upper@default", "host", ttl_seconds=60)
        assert (pinned.reference, pinned.tier) == ("upper:1", "host")
        assert pinned.expires_at is not None
        assert [pin.reference for pin in client.cache.pins()] == ["upper:1"]
        cache = client.cache.show()
        assert [each.reference for each in cache.gpu] == ["upper:1"]
        assert client.cache.engine().gpu == [cache.gpu[0].version_id]
        with pytest.raises(Conflict) as refused:
            client.cache.evict("upper")
        assert refused.value.code == "adapter_pinned"
        assert client.cache.unpin("upper").tier == "host"
        assert client.cache.evict("upper", wait=True).evicted
        assert client.cache.prefetch("rot13").reference == "rot13:1"
        explained = client.cache.why("upper")
        assert explained.now.tier == "disk"
        assert explained.decisions[0].kind == "evicted"
        assert "upper:1" in explained.summary
        last = client.cache.decisions(adapter="upper", limit=2)
        assert [each.id for each in last.items] == sorted(
            each.id for each in explained.decisions[:2]
        )
        later = client.cache.decisions(adapter="upper", after=last.items[0].id)
        assert later.items[0] == last.items[1]
        with pytest.raises(NotFound):
            client.cache.why("nobody")
        with pytest.raises(InvalidRequest):
            client.cache.decisions(limit=0)
        assert client.versions.probe("rot13:1").passed


async def test_the_cache_is_awaited(server: Any) -> None:
    async with AsyncClient(server.base_url) as client:
        assert await client.is_ready()
        newest = (await client.cache.decisions(limit=1)).newest_id
        seen: list[DecisionRead] = []
        async with aclosing(client.cache.stream(adapter="vowels", after=newest)) as stream:
            await client.generate("hello=", model="vowels", max_tokens=4)
            async for decision in stream:
                seen.append(decision)
                if decision.kind == "looked_up":
                    break
        assert seen[0].kind == "load_started"
        assert seen[-1].outcome == "miss"
        assert {each.reference for each in seen} == {"vowels:1"}
        assert (await client.cache.why("vowels")).now.tier == "gpu"
        assert [pin async for pin in client.cache.pins()] == []
        several = await client.generate(["a=", "b="], model="upper", max_tokens=8, temperature=0)
        assert (several.text, several.usage.prompt_tokens) == (
            ["A", "B"],
            several.usage.prompt_tokens,
        )


def test_a_second_version_is_warmed_before_its_alias_moves(server: Any) -> None:
    with Client(server.base_url) as client:
        first = str(ROOT / "demo" / "adapters" / "upper")
        assert client.versions.register("warmed", first).version.number == 1
        second = client.versions.register("warmed", SECOND).version
        moved = client.aliases.set("warmed", version=2, expected_version=1, probe=True)
        assert (moved.version, second.number) == (2, 2)
        assert "warmed:2" in {each.reference for each in client.cache.show().host}


def ran(capsys: pytest.CaptureFixture[str], server: Any, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments, "--server", server.base_url])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_why_is_said_in_sentences(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("upper", "rot13", "stars"):
        server.complete(name, "hello=")
    code, out, err = ran(capsys, server, "why", "upper", "--limit", "3")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("upper:1 is in host memory")
    assert re.fullmatch(
        r"\d\d:\d\d:\d\dZ  upper:1  evicted from GPU slot \d for stars:1, .*", lines[2]
    )
    assert len(lines) == 5
    assert (
        ran(capsys, server, "cache", "why", "upper", "--limit", "3")[1].splitlines()[2:]
        == lines[2:]
    )
    explained = json.loads(ran(capsys, server, "why", "upper", "--json")[1])
    assert explained["now"]["tier"] == "host"
    decisions = json.loads(ran(capsys, server, "cache", "decisions", "--json", "--limit", "2")[1])
    assert [each["reference"] for each in decisions] == ["stars:1", "stars:1"]
    assert ran(capsys, server, "cache", "decisions", "--adapter", "rot13")[1].count("rot13:1") >= 3
    code, out, err = ran(capsys, server, "why", "nobody")
    assert (code, out, err.count("\n"), "[unknown_adapter]" in err) == (1, "", 1, True)


def test_decisions_are_followed_until_interrupted(server: Any) -> None:
    server.complete("double", "hello=")
    follow = ["cache", "decisions", "--follow", "--json", "--adapter", "double", "--limit", "1"]
    with started([*follow, "--server", server.base_url], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["reference"] == "double:1"
        server.client.post("/api/v1/cache/evict", json={"reference": "double"})
        seen = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [(each["kind"], each["tier"]) for each in seen] == [
            ("evicted", "host"),
            ("evicted", "gpu"),
        ]
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


# A shell that runs the tests in its background has interrupts ignored, and children inherit that.
OBEDIENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from adaptry.cli import main
from demo.tasks import TASKS
sys.exit(main())
"""


@contextmanager
def started(arguments: list[str], **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The command as a process of its own, which does not outlive the block."""
    command = [sys.executable, "-c", OBEDIENT, *arguments]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, **streams)
    try:
        yield process
    finally:
        with process:
            process.kill()


def test_top_counts_what_was_asked(server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("top-a", "top-b", "top-c"):  # not requested by other tests in the last minute
        server.register(name, ROOT / "demo" / "adapters" / "upper")
    before = json.loads(ran(capsys, server, "cache", "top", "--once", "--json")[1])
    assert not [name for name in before["lookups_by_reference"] if name.startswith("top-")]
    for name in ("top-a", "top-a", "top-b", "top-c", "top-a"):
        server.complete(name, "hello=")
    after = json.loads(ran(capsys, server, "cache", "top", "--once", "--json")[1])
    counted = after["lookups_by_reference"]
    assert counted["top-a:1"] == {"miss": 1, "gpu_hit": 1, "host_hit": 1}
    assert (counted["top-b:1"], counted["top-c:1"]) == ({"miss": 1}, {"miss": 1})
    everything = Counter[str]()
    for own in counted.values():
        everything.update(own)
    assert Counter(after["lookups"]) == everything
    assert 0 < after["hit_ratio"] < 1
    assert after["counts"]["loads"] >= 3
    assert after["cache"]["slots"] == 2
    code, out, err = ran(capsys, server, "cache", "top", "--once")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("GPU slots    2 of 2")
    assert "hit ratio" in lines[2]
    cells = map(str.split, lines[7:])
    rows = {row[2]: row for row in cells if len(row) > 2}  # a long name goes on in the next line
    tiers = [rows[f"top-{letter}:1"][0] for letter in "acb"]
    assert tiers == ["gpu", "gpu", "host"]


def test_top_draws_on_a_terminal_until_it_is_interrupted(server: Any) -> None:
    here, there = pty.openpty()
    arguments = ["cache", "top", "--interval", "0.2", "--server", server.base_url]
    with started(arguments, stdout=there, stdin=there) as process:
        os.close(there)
        read_until(here, "requests")
        server.complete("reverse", "hello=")
        read_until(here, "reverse:1")
        process.send_signal(signal.SIGINT)
        read_until(here, "\x1b[?1049l")
        assert process.wait(20) == 0
    os.close(here)


def read_until(terminal: int, text: str) -> None:
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 65536).decode(errors="replace")


def test_bench_reports_what_the_server_told(
    server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    before = server.metrics()
    asked = (
        "bench",
        "--requests",
        "24",
        "--concurrency",
        "3",
        "--max-tokens",
        "4",
        "--zipf",
        "1.5",
    )
    # not those that other tests have spoiled
    every = [option for name in TASKS for option in ("--adapter", name)]
    code, out, err = ran(capsys, server, *asked, *every, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["requests"], report["failed"]) == (24, 0)
    assert sum(report["outcomes"].values()) == 24
    hits = gained(before, server.metrics(), 'adaptry_cache_lookups_total{result="hit",tier="gpu"}')
    assert report["outcomes"]["gpu_hit"] == hits
    assert report["hit_ratio"] == hits / 24
    misses = report["first_token_seconds"]["miss"]
    assert misses["count"] == report["outcomes"]["miss"]
    assert 0 < misses["p50"] <= misses["p95"] <= misses["p99"]
    assert report["load_seconds"]["count"] >= 1
    assert report["tokens_per_second"] > 0
    code, out, err = ran(capsys, server, *asked, "--adapter", "upper", "--adapter", "upper:1")
    assert (code, err) == (0, "")
    assert out.startswith("24 requests to 2 adapters in ")
    assert re.search(r"^gpu_hit +2[0-4] ", out, re.MULTILINE)
    code, out, err = ran(capsys, server, "bench", "--adapter", "nobody", "--requests", "2")
    assert (code, err) == (1, "adaptry: 2 of 2 requests failed\n")
    assert "failed: 2 with model_not_found" in out


def gained(before: dict[str, float], after: dict[str, float], sample: str) -> float:
    return after[sample] - before.get(sample, 0)


def test_doctor_finds_a_server_that_is_ready(
    server: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    places = ("--database", f"sqlite:///{server.state}/registry.db", "--store", str(tmp_path))
    code, out, err = ran(capsys, server, "doctor", *places)
    assert (code, err) == (0, "")
    assert f"ok       server: {server.base_url} answers and is ready" in out
    assert re.search(r"^ok +database: answers, schema \w+ is the newest$", out, re.MULTILINE)


@pytest.mark.parametrize("call", ["pin", "prefetch", "evict", "unpin"])
def test_what_steers_the_cache_tells_json(
    server: Any, capsys: pytest.CaptureFixture[str], call: str
) -> None:
    if call == "unpin":
        asyncio.run(_pinned(server.base_url))
    code, out, err = ran(capsys, server, "cache", call, "stars", "--json")
    assert (code, err, json.loads(out)["reference"]) == (0, "", "stars:1")
    if call == "pin":
        ran(capsys, server, "cache", "unpin", "stars")


async def _pinned(url: str) -> None:
    async with AsyncClient(url) as client:
        await client.cache.pin("stars", "gpu")
