"""`adaptry cache top`: samples the cache repeatedly and draws it."""

import json
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NoReturn

from adaptry.client import Client, NoAnswer, Unavailable
from adaptry.client.models import ResidentRead
from adaptry.terminal.engines import engines_down
from adaptry.terminal.output import size, text
from adaptry.top.model import Recent, Row, Sample, take_sample

if TYPE_CHECKING:
    from rich.console import JustifyMethod, RenderableType

MOST = 1000
_FILE_COLUMNS = 200
HEADINGS = ("TIER", "SLOT", "REFERENCE", "STATE", "SIZE", "IDLE", "HITS")
IN_THE_LAST_MINUTE = {"gpu_hit": "HIT/m", "host_hit": "HOST/m", "miss": "MISS/m"}


class Watch:
    """Reads the cache and the decisions since the previous sample."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._recent = Recent()
        self._newest: int | None = None

    def sample(self) -> Sample:
        cache = self._client.cache.show()
        while True:
            found = self._client.cache.decisions(after=self._newest, limit=MOST)
            is_first, self._newest = self._newest is None, found.newest_id
            self._recent.add(found.items, datetime.now(UTC))
            if is_first or len(found.items) < MOST:
                return take_sample(cache, self._recent)
            self._newest = found.items[-1].id


def run_top(client: Client, interval: float, *, once: bool, as_json: bool) -> None:
    """Run until interrupted, or once. Raises the client's errors for the first sample."""
    watch = Watch(client)
    sample = watch.sample()
    if once:
        _print(sample, as_json)
        return
    with suppress(KeyboardInterrupt):  # the way to end it
        if as_json or not sys.stdout.isatty():
            _print_each(watch, sample, interval, as_json)
        _draw_each(watch, sample, interval)


def _print(sample: Sample, as_json: bool) -> None:
    if as_json:
        print(json.dumps(sample.as_json(), ensure_ascii=False), flush=True)
        return
    from rich.console import Console

    console = Console(highlight=False)
    # a file or a pipe gets full lines
    console.print(render(sample), width=None if console.is_terminal else _FILE_COLUMNS)
    sys.stdout.flush()


def _print_each(watch: Watch, sample: Sample, interval: float, as_json: bool) -> NoReturn:
    while True:
        _print(sample, as_json)
        time.sleep(interval)
        sample = watch.sample()


def _draw_each(watch: Watch, sample: Sample, interval: float) -> NoReturn:
    from rich.console import Group
    from rich.live import Live

    with Live(render(sample), screen=True, auto_refresh=False) as live:
        while True:
            time.sleep(interval)
            try:
                sample, problem = watch.sample(), ""
            except (NoAnswer, Unavailable) as error:  # the server may come back
                problem = f"\n[red]{error}"
            live.update(Group(render(sample), problem) if problem else render(sample), refresh=True)


def render(sample: Sample) -> "RenderableType":
    """The summary, and a row for each adapter."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in (*HEADINGS, *IN_THE_LAST_MINUTE.values()):
        is_text = heading in {"TIER", "REFERENCE", "STATE"}
        may_wrap = heading in {"REFERENCE", "STATE"}
        justify: JustifyMethod = "left" if is_text else "right"
        table.add_column(heading, justify=justify, no_wrap=not may_wrap, overflow="fold")
    for row in sample.rows():
        counts = (str(row.lookups[outcome]) for outcome in IN_THE_LAST_MINUTE)
        table.add_row(row.tier, *_cells(row), *counts)
    lines = Text("\n".join(summary(sample)), no_wrap=True, overflow="ellipsis")
    return Group(lines, "", table)


def _cells(row: Row) -> tuple[str, ...]:
    resident = row.resident
    if resident is None:
        return "-", row.reference, "-", "-", "-", "-"
    slot = "-" if resident.slot is None or row.tier == "host" else str(resident.slot)
    bytes_, idle = size(resident.host_bytes), f"{resident.idle_seconds:.0f} s"
    return slot, row.reference, _state(resident), bytes_, idle, str(resident.hits)


def _state(resident: ResidentRead) -> str:
    states = [f"pinned {resident.pinned}"] if resident.pinned else []
    states += [f"leased {resident.leases}"] if resident.leases else []
    states += [f"awaited {resident.waiting}"] if resident.waiting else []
    states += ["leaving"] if resident.leaving else []
    return ", ".join(states) or "idle"


def summary(sample: Sample) -> list[str]:
    """The summary lines."""
    cache = sample.cache
    states = ", ".join(f"{count} {state}" for state, count in cache.slots_by_state.items() if count)
    limit = "" if cache.host_bytes_limit is None else f" of {size(cache.host_bytes_limit)}"
    in_slots, in_host = len(cache.gpu) + cache.hidden["gpu"], len(cache.host) + cache.hidden["host"]
    host = f"{in_host} of {cache.host_capacity} places, {size(cache.host_bytes)}{limit}"
    ratio = "-" if sample.hit_ratio is None else f"{sample.hit_ratio:.1%}"
    counts = ", ".join(f"{count} {what}" for what, count in sorted(sample.counted.items()))
    load = (
        "" if sample.load_seconds is None else f", a load takes {sample.load_seconds * 1000:.0f} ms"
    )
    return [
        *engines_down(cache),
        f"GPU slots    {in_slots} of {cache.slots} ({states})",
        f"host memory  {host}",
        f"hit ratio    {ratio} in the last minute: {_outcomes(sample.lookups)}",
        f"moves        {counts or 'none'}{load}",
        f"requests     {cache.waiting} waiting, loading {text(cache.loading) or '-'}",
    ]


def _outcomes(lookups: Counter[str]) -> str:
    """As `12 hits, 3 host hits, 1 miss`."""
    names = (("gpu_hit", "hit", "hits"), ("host_hit", "host hit", "host hits"))
    parts = [
        f"{lookups[kind]} {one if lookups[kind] == 1 else many}"
        for kind, one, many in (*names, ("miss", "miss", "misses"))
        if lookups[kind]
    ]
    return ", ".join(parts) or "-"
