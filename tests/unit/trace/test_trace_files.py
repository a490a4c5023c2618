"""Trace files: export by the command, Parquet, hidden tenants, and CSV of others."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fastapi import FastAPI

from adaptry.cli import main
from adaptry.terminal.errors import CommandError
from adaptry.traces.hidden_tenants import HiddenTenants
from adaptry.traces.parquet import write_parquet
from adaptry.traces.reader import read_trace
from engine.api.trace import create_trace_router
from engine.events import MovedIn
from engine.trace import FORMAT
from engine.trace.lines import Line, RequestLine, ServerLine, encode_for_export
from engine.trace.recorder import EndedRequest, TraceRecorder
from engine.trace.segments import TraceSegments
from engine.types import (
    AdapterVersion,
    CacheOutcome,
    Lease,
    Transition,
    VersionId,
    WorkTotals,
)
from tests.support.servers.asgi_server import serving

OURS = AdapterVersion(VersionId(1), "upper", 2, "0" * 64, "/a", 8, 100)
THEIRS = AdapterVersion(VersionId(2), "acme~support", 1, "1" * 64, "/b", 8, 200)
SERVER = ServerLine(FORMAT, 1.0, "localhost:8000", "base", 4, 16, None, 8, 2, 2.0, "lru")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[str]:
    """Its trace has a load and two requests; the later one ended first."""
    recorder = TraceRecorder(TraceSegments(tmp_path / "recorded", 2**20), SERVER)
    recorder.on_event(MovedIn(OURS, Transition.DISK_TO_HOST, 0.5))
    lease = Lease(THEIRS, CacheOutcome.GPU_HIT, 0.0, 0.0)
    recorder.add_request(
        EndedRequest(20.0, THEIRS, "acme", lease, WorkTotals(3, 9, 20.25), "completed", 1.0)
    )
    missed = Lease(OURS, CacheOutcome.MISS, 0.6, 0.5)
    recorder.add_request(
        EndedRequest(10.0, OURS, None, missed, WorkTotals(4, 7, 11.0), "completed", 30.0)
    )
    app = FastAPI()
    app.include_router(create_trace_router(recorder))
    async with serving(app) as url:
        yield url


async def command(*arguments: str) -> int:
    return await asyncio.to_thread(main, list(arguments))


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
async def test_an_exported_trace_is_read_back_in_order_of_arrival(
    server: str, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"trace.{suffix}"
    assert await command("trace", "export", "-o", str(path), "--server", server) == 0
    trace = read_trace(path)
    first, second = trace.requests
    assert (first.adapter, first.at, first.source) == ("upper:2", 10.0, "miss")
    assert (first.prompt_tokens, first.generated_tokens, first.wait_seconds) == (4, 7, 0.6)
    assert (second.adapter, second.first_token_seconds) == ("acme~support:1", 0.25)
    assert [(load.seconds, load.size_bytes) for load in trace.loads] == [(0.5, 100)]
    assert trace.server is not None
    assert (trace.server.slots, trace.server.host_bytes) == (4, None)


async def test_without_a_file_it_goes_to_stdout(
    server: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert await command("trace", "export", "--server", server) == 0
    lines = [json.loads(each) for each in capfdbinary.readouterr().out.splitlines()]
    assert [each["kind"] for each in lines] == ["server", "load", "request", "request"]


async def test_hidden_tenants_are_in_no_line_and_keep_their_adapters_together(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADAPTRY_TRACE_KEY", "a secret")
    for name in ("one", "two"):
        path = tmp_path / name
        assert (
            await command("trace", "export", "-o", str(path), "--hide-tenants", "--server", server)
            == 0
        )
        assert "acme" not in path.read_text()
    monkeypatch.delenv("ADAPTRY_TRACE_KEY")
    path = tmp_path / "three"
    await command("trace", "export", "-o", str(path), "--hide-tenants", "--server", server)
    one, two, three = ((tmp_path / name).read_text() for name in ("one", "two", "three"))
    assert one == two != three
    line = json.loads(one.splitlines()[2])
    assert re.fullmatch("t-[0-9a-f]{12}", line["tenant"])
    assert line["adapter"] == f"{line['tenant']}~support"
    assert '"adapter":"upper"' in one


def test_another_key_gives_another_name() -> None:
    line: dict[str, Any] = {"tenant": "acme", "adapter": "acme~a"}
    assert HiddenTenants(b"a").hide(line) != HiddenTenants(b"b").hide(line)
    assert line["tenant"] == "acme"


async def test_an_existing_file_is_not_overwritten(
    server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "there").write_text("mine")
    assert await command("trace", "export", "-o", str(tmp_path / "there"), "--server", server) == 1
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "there").read_text() == "mine"


def test_a_csv_of_others_needs_time_adapter_and_tokens(tmp_path: Path) -> None:
    path = tmp_path / "theirs.csv"
    path.write_text("time, adapter, tokens\n2026-11-29T10:00:05Z,b,7\n2026-11-29T10:00:00Z,a,3\n")
    first, second = read_trace(path).requests
    assert (first.adapter, second.adapter, second.at - first.at) == ("a", "b", 5.0)
    path.write_text("adapter,tokens,time,prompt_tokens\na,3,0.5,11\n")
    (only,) = read_trace(path).requests
    assert (only.at, only.generated_tokens, only.prompt_tokens) == (0.5, 3, 11)
    path.write_text("time,adapter,tokens\n1,,4\n2,a,5\n")
    assert [each.adapter for each in read_trace(path).requests] == [None, "a"], "the base model"


def load(at: str, version: str = "1") -> str:
    rest = '"transition":"disk_to_host","seconds":1,"size_bytes":1,"rank":1'
    return f'{{"kind":"load","at":{at},"adapter":"a","version":{version},{rest}}}\n'


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "", "no column time, adapter, tokens"),
        ("a.csv", "time,adapter\n1,a\n", "no column tokens"),
        ("a.csv", "time,adapter,tokens\n1,a,x\n", "a.csv:2 is no request: invalid literal"),
        ("a.csv", "time,adapter,tokens\nnan,a,1\n", "a.csv:2 is no request: nan is no time"),
        ("a.csv", "time,adapter,tokens\nnoon,a,1\n", "a.csv:2 is no request: Invalid isoformat"),
        ("a.csv", "time,adapter,tokens\n1,a,-1\n", "a number of tokens below 0"),
        ("a.csv", "time,adapter,tokens\n1\n", "a.csv:2 is no request"),
        ("a.csv", "time,tokens,adapter\n1,4\n", "the row ends before its adapter"),
        ("a.csv", "time,adapter,tokens\n", "has no requests"),
        ("a.csv", f"time,adapter,tokens\n1,{'a' * 200_000},1\n", "a.csv:2 is no CSV: field larger"),
        ("a.jsonl", "", "has no requests"),
        ("a.jsonl", "x\n", "a.jsonl:1 is no line of a trace: Expecting value"),
        ("a.jsonl", "[1]\n", "a.jsonl:1 is no line of a trace"),
        ("a.jsonl", '{"kind":"request"}\n', "a.jsonl:1 is no line of a trace"),
        ("a.jsonl", '{"kind":"x"}\n', "a line of the kind 'x'"),
        ("a.jsonl", "[" * 100_000 + "\n", "a.jsonl:1 is no line of a trace: maximum recursion"),
        ("a.jsonl", load("NaN"), "a.jsonl:1 is no line of a trace: nan is no time"),
        ("a.jsonl", load("1e999"), "a.jsonl:1 is no line of a trace: inf is no time"),
        ("a.jsonl", load("1", "1e999"), "a.jsonl:1 is no line of a trace: cannot convert float"),
        ("a.parquet", "not parquet", "is no exported trace"),
        ("none.jsonl", None, "can't be read: No such file"),
    ],
)
def test_what_is_no_trace_is_one_clear_error(
    tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    with pytest.raises(CommandError, match=re.escape(message)):
        read_trace(path)


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_a_trace_of_an_earlier_format_is_read_and_one_of_a_later_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    def written(format_: int, adapter: str | None) -> Path:
        version = None if adapter is None else 1
        lines: list[Line] = [
            msgspec.structs.replace(SERVER, format=format_),
            RequestLine(2.0, adapter, version, None, 3, 4, "completed", None, 0, 0, 0, 0.1, 0.5),
        ]
        path = tmp_path / f"{format_}.{suffix}"
        exported = [encode_for_export(line) for line in lines]
        if suffix == "parquet":
            write_parquet(path, map(json.loads, exported))
        else:
            path.write_bytes(b"".join(exported))
        return path

    assert FORMAT == 2
    assert read_trace(written(1, "upper")).requests[0].adapter == "upper:1"
    assert read_trace(written(2, None)).requests[0].adapter is None
    with pytest.raises(CommandError, match="its format is 3, newer than 2: update adaptry"):
        read_trace(written(3, None))


async def test_a_last_line_that_was_cut_off_is_left_out(server: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    await command("trace", "export", "-o", str(path), "--server", server)
    path.write_text(path.read_text()[:-9])
    assert [each.adapter for each in read_trace(path).requests] == ["acme~support:1"]
