"""SIGTERM, SIGINT while requests run: they end, in time or with a word; what is known stays."""

import asyncio
import json
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from demo.tasks import prompt_for
from tests.faults.conftest import Victim

pytestmark = [pytest.mark.servers("faults")]

END_SECONDS = 120


class Stream:
    """One that has begun; `lines` are all that came once it has ended."""

    def __init__(self, served: Victim, pool: ThreadPoolExecutor, max_tokens: int) -> None:
        self._served = served
        self._begun = threading.Event()
        self._lines: Future[list[str]] = pool.submit(self._read, max_tokens)
        self._lines.add_done_callback(lambda _: self._begun.set())
        assert self._begun.wait(60)
        if self._lines.done():
            raise AssertionError(f"it ended before anybody looked: {self.lines()}")

    def _read(self, max_tokens: int) -> list[str]:
        lines = []
        body = {
            "model": "stopped",
            "prompt": prompt_for("hello"),
            "max_tokens": max_tokens,
            "ignore_eos": True,
            "stream": True,
        }
        url = self._served.url("/v1/completions")
        with httpx.stream("POST", url, json=body, timeout=120, trust_env=False) as response:
            for line in filter(None, response.iter_lines()):
                lines.append(line.removeprefix("data: "))
                self._begun.set()
        return lines

    def lines(self) -> list[str]:
        return self._lines.result(END_SECONDS)


def is_refused(served: Victim) -> bool:
    """A client that connects now. The server runs while a stream goes on.

    Who came before the signal was heard is let in, and waits for an engine that may stand still.
    """
    try:
        return served.ask("stopped", timeout=2) == (503, "engine_unavailable")
    except httpx.ReadTimeout:
        return False


def prepare(served: Victim) -> None:
    if served.client.get("/api/v1/adapters/stopped").status_code == 404:
        served.new_adapter("stopped", "double")
    assert served.ask("stopped")[0] == 200


def replace_engine(served: Victim) -> None:
    served.engine_process().kill()
    served.wait_until(lambda: not served.is_ready())
    served.wait_until(served.is_ready)


def stop_while_streaming(served: Victim) -> None:
    replace_engine(served)
    prepare(served)
    pin = {"reference": "stopped", "tier": "host"}
    assert served.client.post("/api/v1/cache/pins", json=pin).status_code == 201
    with ThreadPoolExecutor(1) as pool:
        stream = Stream(served, pool, max_tokens=150)
        served.process.send_signal(signal.SIGTERM)
        served.wait_until(lambda: is_refused(served))
        lines = stream.lines()
    assert lines[-1] == "[DONE]"
    last = [json.loads(line) for line in lines[:-1] if '"finish_reason"' in line][-1]
    assert last["choices"][0]["finish_reason"] == "length"
    assert served.exit_code(END_SECONDS) == 0
    served.start()
    served.wait_until(lambda: "stopped" in served.residents("host"))
    assert served.client.delete("/api/v1/cache/pins/stopped").status_code == 200


async def test_what_runs_may_end_also_on_an_engine_that_took_anothers_place(
    served: Victim,
) -> None:
    await asyncio.to_thread(stop_while_streaming, served)


def stop_a_stopped_engine(
    served: Victim, first: signal.Signals, second: signal.Signals | None
) -> None:
    """It makes no more tokens, so that nothing can end by itself."""
    prepare(served)
    engine = served.engine_process()
    with ThreadPoolExecutor(2) as pool:
        streams = [Stream(served, pool, max_tokens=200) for _ in range(2)]
        engine.send_signal(signal.SIGSTOP)
        served.process.send_signal(first)
        served.wait_until(lambda: is_refused(served))
        if second is not None:
            served.process.send_signal(second)
        for stream in streams:
            (error,) = [line for line in stream.lines() if '"error"' in line]
            assert json.loads(error)["error"]["code"] == "engine_unavailable"
    assert served.exit_code(END_SECONDS) == 0
    assert not engine.is_running()


async def test_a_second_signal_ends_what_still_runs(served: Victim) -> None:
    await asyncio.to_thread(stop_a_stopped_engine, served, signal.SIGINT, signal.SIGTERM)


async def test_what_runs_at_the_deadline_is_ended_with_the_reason(served: Victim) -> None:
    await asyncio.to_thread(served.stop)
    served.drain_seconds = 3
    await asyncio.to_thread(served.start)
    await asyncio.to_thread(stop_a_stopped_engine, served, signal.SIGTERM, None)
