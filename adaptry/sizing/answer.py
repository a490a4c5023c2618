"""Answer of `adaptry size`: from its question to the report, by simulation."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from adaptry.sizing.costs import KnownCosts, load_costs
from adaptry.sizing.inputs import (
    calibrate,
    check_writable,
    fetch_trace,
    recorded_of,
    setting_of,
)
from adaptry.sizing.question import Question
from adaptry.sizing.report import Report
from adaptry.sizing.sweep import Choices, Goal, Sizer
from adaptry.sizing.tables import Tables
from adaptry.sizing.workload import Workload, workload_of, workload_of_rates
from adaptry.terminal.errors import CommandError, UsageError
from adaptry.terminal.output import show_json
from adaptry.traces.reader import read_trace
from adaptry.traces.trace import Trace


def answer(asked: Question) -> None:
    """Print it, and write what it is to write. Raises CommandError, UsageError."""
    choices = Choices(
        _numbers("--slots", asked.slots),
        _numbers("--host-places", asked.host_places),
        _numbers("--replicas", asked.replicas),
    )
    for path in (asked.plot, asked.save_costs):
        check_writable(path)
    known = KnownCosts() if asked.costs is None else load_costs(asked.costs)
    found: Trace | None = None
    if asked.adapters is not None or asked.rate is not None:
        workload = _rates_of(asked)
    else:
        found = fetch_trace(asked.server) if asked.trace is None else read_trace(asked.trace)
        workload = workload_of(found, asked.requests)
        if not workload.adapters:
            raise CommandError(_why_none(asked, found))
        known = known.with_loads_of(found) if asked.costs is None else known
    if asked.calibrate:
        known = calibrate(asked.server, known)
    if asked.save_costs is not None:
        known.save(asked.save_costs)
    report = _report(asked, workload, known, found, choices)
    if asked.plot is not None:
        _save_plot(asked.plot, report)
    if asked.as_json:
        show_json(report.as_json())
    else:
        Tables(report).show()


def _why_none(asked: Question, found: Trace) -> str:
    """Why the workload has no request for an adapter."""
    where = asked.server if asked.trace is None else asked.trace
    if all(each.adapter is None for each in found.requests):
        return f"{where} has recorded no requests for adapters yet"
    count = f"{asked.requests:,} requests" if asked.requests > 1 else "request"
    return f"the last {count} of {where} were for the base model: take more with --requests"


def _rates_of(asked: Question) -> Workload:
    if asked.trace is not None or asked.adapters is None or asked.rate is None:
        raise UsageError("a TRACE, or --adapters and --rate together")
    return workload_of_rates(
        adapters=asked.adapters,
        zipf=asked.zipf,
        rate=asked.rate,
        seconds=asked.seconds,
        tokens=asked.tokens,
        prompt_tokens=asked.prompt_tokens,
        size_bytes=round(asked.adapter_mib * 2**20),
        rank=asked.rank,
    )


def _report(
    asked: Question,
    workload: Workload,
    known: KnownCosts,
    found: Trace | None,
    choices: Choices,
) -> Report:
    goal = Goal(asked.first_token, asked.share)
    base = setting_of(found.server if found else None)
    base = replace(base, eviction_policy=asked.eviction_policy or base.eviction_policy)
    recorded = None
    if found is not None and asked.faster == 1:
        recorded = recorded_of(found, workload, known.costs, goal.first_token_seconds)
    workload = workload.scaled(asked.faster)
    sizer = Sizer(workload, known.costs, goal, base, asked.warm)
    largest = asked.max_rank or max(workload.ranks.values(), default=None)
    with _progress(sizer):
        sizing = sizer.size(choices)
        split = None if largest is None else sizer.split_by_rank(sizing.setting, largest)
    return Report(workload, known, sizing, asked.model, largest, recorded, split)


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
    from adaptry.sizing.plot import draw

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
