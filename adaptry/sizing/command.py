"""`adaptry size`: slots, host memory, rank and replicas that a workload and a goal need."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from adaptry.sizing.costs import KnownCosts, load_costs
from adaptry.sizing.inputs import calibrate as measure
from adaptry.sizing.inputs import check_writable, fetch_trace, recorded_of, setting_of
from adaptry.sizing.plot import draw
from adaptry.sizing.report import Report
from adaptry.sizing.sweep import Choices, Goal, Sizer
from adaptry.sizing.tables import Tables
from adaptry.sizing.workload import Workload, workload_of, workload_of_rates
from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server
from adaptry.terminal.output import show_json
from adaptry.traces.reader import read_trace
from adaptry.traces.trace import Trace
from engine.types import EvictionPolicy

_RATES = "Without a trace: "
Values = Annotated[
    str | None, typer.Option(metavar="N,N,…", help="Only these [default: what fits].")
]


def size(
    trace: Annotated[
        Path | None,
        typer.Argument(
            metavar="TRACE",
            help="What `adaptry trace export` wrote, or a .csv with time, adapter, tokens "
            "[default: what the server has recorded].",
        ),
    ] = None,
    first_token: Annotated[
        float, typer.Option(min=0.001, help="Goal: seconds to the first token.")
    ] = 0.5,
    share: Annotated[
        float, typer.Option(min=0.01, max=1, help="Goal: for this share of the requests.")
    ] = 0.99,
    adapters: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help=f"{_RATES}how many there are.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, max=100_000, help=f"{_RATES}requests a second.")
    ] = None,
    zipf: Annotated[
        float, typer.Option(min=0, max=10, help=f"{_RATES}skew; 0: all equally, 1: typical.")
    ] = 1.0,
    tokens: Annotated[
        int, typer.Option(min=1, max=1_000_000, help=f"{_RATES}mean of the generated tokens.")
    ] = 128,
    prompt_tokens: Annotated[
        int, typer.Option(min=0, max=10_000_000, help=f"{_RATES}of each request.")
    ] = 0,
    seconds: Annotated[
        float, typer.Option(min=1, max=1e7, help=f"{_RATES}length of the simulated traffic.")
    ] = 600,
    adapter_mib: Annotated[
        float, typer.Option(min=0, max=1e6, help=f"{_RATES}size of each adapter.")
    ] = 0,
    rank: Annotated[int, typer.Option(min=0, help=f"{_RATES}rank of each adapter.")] = 0,
    faster: Annotated[
        float, typer.Option(min=0.001, max=1000, help="The same requests, so many times as fast.")
    ] = 1,
    requests: Annotated[
        int, typer.Option(min=1, max=5_000_000, help="At most the last so many of the trace.")
    ] = 20_000,
    warm: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share of the time whose requests don't count.")
    ] = 0.1,
    slots: Values = None,
    host_places: Values = None,
    replicas: Values = None,
    eviction_policy: Annotated[
        EvictionPolicy | None, typer.Option(help="[default: the recorded server's, or adaptive]")
    ] = None,
    max_rank: Annotated[
        int | None, typer.Option(min=1, help="Of the slots [default: the largest there is].")
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure the server's costs; takes seconds.")
    ] = False,
    costs: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Costs that --save-costs wrote.")
    ] = None,
    save_costs: Annotated[Path | None, typer.Option(metavar="FILE", help="Write them.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the curves.")] = None,
    model: Annotated[str, typer.Option(help="For the line that follows.")] = "MODEL",
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Simulate a recorded trace; say how many slots, host places and replicas its goal needs.

    It is served by the server's own cache policy on a virtual clock. Without a trace, --adapters
    and --rate say what comes. Costs are measured (--calibrate), read (--costs), recorded, or
    assumed; the report says which.
    """
    choices = Choices(
        _numbers("--slots", slots),
        _numbers("--host-places", host_places),
        _numbers("--replicas", replicas),
    )
    for path in (plot, save_costs):
        check_writable(path)
    known = KnownCosts() if costs is None else load_costs(costs)
    found: Trace | None = None
    if adapters is not None or rate is not None:
        if trace is not None or adapters is None or rate is None:
            raise UsageError("a TRACE, or --adapters and --rate together")
        workload = workload_of_rates(
            adapters=adapters,
            zipf=zipf,
            rate=rate,
            seconds=seconds,
            tokens=tokens,
            prompt_tokens=prompt_tokens,
            size_bytes=round(adapter_mib * 2**20),
            rank=rank,
        )
    else:
        found = fetch_trace(server) if trace is None else read_trace(trace)
        if not found.requests:
            raise CommandError(f"{server} has recorded no requests for adapters yet")
        workload = workload_of(found, requests)
        known = known.with_loads_of(found) if costs is None else known
    if calibrate:
        known = measure(server, known)
    if save_costs is not None:
        known.save(save_costs)
    goal = Goal(first_token, share)
    report = _report(workload, known, found, choices, goal, warm, faster, eviction_policy)
    report = replace(report, model=model, max_rank=max_rank or report.max_rank)
    if plot is not None:
        _save_plot(plot, report)
    if as_json:
        show_json(report.as_json())
    else:
        Tables(report).show()


def _report(
    workload: Workload,
    known: KnownCosts,
    found: Trace | None,
    choices: Choices,
    goal: Goal,
    warm: float,
    faster: float,
    policy: EvictionPolicy | None,
) -> Report:
    base = setting_of(found.server if found else None)
    base = replace(base, eviction_policy=policy or base.eviction_policy)
    recorded = None
    if found is not None and faster == 1:
        recorded = recorded_of(found, workload, known.costs, goal.first_token_seconds)
    workload = workload.scaled(faster)
    sizer = Sizer(workload, known.costs, goal, base, warm)
    with _progress(sizer):
        sizing = sizer.size(choices)
    largest = max(workload.ranks.values(), default=None)
    return Report(workload, known, sizing, "MODEL", largest, recorded)


@contextmanager
def _progress(sizer: Sizer) -> Iterator[None]:
    """How many settings are simulated, if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    count = 0
    with Console(stderr=True).status("simulating") as status:

        def show() -> None:
            nonlocal count
            count += 1
            status.update(f"simulated {count} settings")

        sizer.on_prediction = show
        yield


def _save_plot(path: Path, report: Report) -> None:
    try:
        path.write_text(draw(report.sizing), encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path} can't be written: {error.strerror}") from error


def _numbers(option: str, text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    try:
        numbers = tuple(int(each) for each in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes numbers with commas between, such as 2,4,8") from None
    if not all(1 <= each <= 1_000_000 for each in numbers):
        raise UsageError(f"{option} takes numbers from 1 to 1,000,000")
    return numbers
