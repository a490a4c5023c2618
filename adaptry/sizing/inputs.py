"""Inputs of a sizing: the workload, the costs, and what the recorded server did with it."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from adaptry.client.errors import ApiError
from adaptry.client.transport.http import Options, parse_success
from adaptry.sizing.costs import MEASURED, KnownCosts
from adaptry.sizing.pace import at_recorded_pace
from adaptry.sizing.prediction import Setting, predict, quantile
from adaptry.sizing.report import Recorded
from adaptry.sizing.workload import Workload
from adaptry.terminal.errors import CommandError
from adaptry.terminal.options import API_KEY, connect
from adaptry.traces.reader import read_lines
from adaptry.traces.trace import Trace, TracedServer
from engine.simulation.shared_engine import Costs
from engine.types import CacheOutcome, EvictionPolicy, Transition

if TYPE_CHECKING:
    from adaptry.sizing.calibration import Measured

_TIMEOUT_SECONDS = 120.0


def fetch_trace(server: str) -> Trace:
    """What a running server has recorded."""
    with connect(server) as client, client.cache.trace() as chunks:
        return read_lines(_lines(chunks), server)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        yield from (line + b"\n" for line in whole)
    if rest:
        yield rest


def calibrate(server: str, known: KnownCosts) -> KnownCosts:
    """Steps and prompts timed from here, and at the pace of what the server had recorded until
    then; loads, copies and first uses as it recorded them.
    """
    import asyncio  # which takes longer to import than a small simulation

    measured = asyncio.run(_measure(server))
    known = known.with_values(MEASURED, **measured.values)
    more = measured.per_adapter_seconds, measured.prompt_steps
    known = known.with_steps(measured.steps, *more)
    try:
        trace = fetch_trace(server)
    except ApiError:  # it records none, or this key may not read it: loads stay assumed
        trace = Trace()
    known = known.with_loads_of(trace).with_spread("overheads", measured.overheads(trace))
    before = replace(trace, requests=trace.requests[: -measured.asked])
    known = known.with_first_uses_of(before)
    return at_recorded_pace(known, before, setting_of(trace.server))


async def _measure(server: str) -> "Measured":
    import httpx

    from adaptry.sizing.calibration import Calibration

    options = Options(server, os.environ.get(API_KEY) or None, _TIMEOUT_SECONDS)
    async with httpx.AsyncClient(**options.client_arguments()) as http:
        try:
            response = await http.get("/v1/models")
        except httpx.TransportError as error:
            raise options.no_answer(error) from error
        models = parse_success(response).content.get("data", ())
        served = [each["id"] for each in models if each.get("parent") and "@" not in each["id"]]
        return await Calibration(http, served).measure()


def setting_of(server: TracedServer | None) -> Setting:
    """The recorded server's; the defaults of `adaptry serve` if that is unknown."""
    if server is None:
        return Setting(slots=4, host_places=16)
    return Setting(
        slots=server.slots,
        host_places=server.host_places,
        host_bytes=server.host_bytes,
        max_loads=server.max_loads,
        slot_wait_seconds=server.slot_wait_seconds,
        eviction_policy=_policy(server.eviction_policy),
    )


def _policy(name: str) -> EvictionPolicy:
    try:
        return EvictionPolicy(name)
    except ValueError:
        raise CommandError(f"the trace is of an eviction policy unknown here: {name}") from None


def recorded_of(
    trace: Trace, workload: Workload, costs: Costs, first_token_seconds: float
) -> Recorded | None:
    """What the server did, and what is predicted for it. None: the trace does not say."""
    requests = trace.requests[-len(workload.arrivals) :]
    found = Counter(each.source for each in requests if each.source is not None)
    if trace.server is None or not found.total():
        return None
    setting = setting_of(trace.server)
    for_adapters = [each for each in requests if each.adapter is not None]
    firsts = [x.first_token_seconds for x in for_adapters if x.first_token_seconds is not None]
    later = [each for each in trace.loads if each.at >= requests[0].at]
    loads = sum(each.transition == Transition.DISK_TO_HOST for each in later)
    return Recorded(
        setting,
        slot_hit_ratio=found[CacheOutcome.GPU_HIT] / found.total(),
        memory_hit_ratio=1 - found[CacheOutcome.MISS] / found.total(),
        loads=loads,
        first_token_p50=quantile(firsts, 0.5),
        first_token_p99=quantile(firsts, 0.99),
        predicted=predict(workload, costs, setting, first_token_seconds=first_token_seconds),
    )


def check_writable(path: Path | None) -> None:
    """Before a minute of simulation. Raises CommandError."""
    if path is not None and not path.absolute().parent.is_dir():
        raise CommandError(f"{path} can't be written: there is no such folder")
