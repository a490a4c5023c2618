"""`adaptry cache history`: what the cache did in the last day, and what was in it at a time."""

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from adaptry.terminal.errors import UsageError
from adaptry.terminal.options import DEFAULT_SERVER, AsJson, Server, connect
from adaptry.terminal.output import line_of, moment, show_json, show_table, text

if TYPE_CHECKING:
    from adaptry.client import Client
    from adaptry.client.models import (
        BucketRead,
        HistoryRead,
        PastCacheRead,
        PastDecisionList,
        PastRead,
        PastResidentRead,
        UnknownRead,
    )

_FORMATS = ("%Y-%m-%dT%H:%M:%S%z", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S")
_CLOCKS = ("%H:%M", "%H:%M:%S")
_TIMELINE = ("BEGIN", "HITS", "HOST HITS", "MISSES", "LOADS", "EVICTIONS", "WAITS", "LONGEST")
_SLOTS = ("SLOT", "REFERENCE", "SINCE", "PINNED", "LEASES", "WAITING")
_HOST = ("HOST", "SINCE", "PINNED")
_WAITS = ("WAITED FOR", "SINCE", "SECONDS", "OUTCOME")
_MOST = 1000
_DAY = 24


def history(
    at: Annotated[
        str | None,
        typer.Option(help="A time, such as 02:50 (the last one) or 2026-11-30T02:50:00."),
    ] = None,
    around: Annotated[
        int, typer.Option(min=1, max=3600, help="Decisions of so many seconds before and after.")
    ] = 30,
    hours: Annotated[
        float, typer.Option(min=0.1, max=8784, help="Without --at: counts of so many hours.")
    ] = _DAY,
    of: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Another server on the same database, or one replica."),
    ] = None,
    server: Server = DEFAULT_SERVER,
    as_json: AsJson = False,
) -> None:
    """Show what was in the slots at a time, who evicted whom and who waited.

    Without --at: hits, misses, loads, evictions and waits of the last day, hour by hour. Of a
    fleet, each replica's in turn. Times without a zone are local.
    """
    when = None if at is None else parse_time(at, datetime.now(UTC))
    with connect(server) as client:
        if when is None:
            _show_timeline(client, hours, of, as_json)
        else:
            _show_state(client, when, around, of, as_json)


def parse_time(given: str, now: datetime) -> datetime:
    """`02:50` is the last time that the local clock showed that. Raises UsageError."""
    for layout in _FORMATS:
        try:
            return datetime.strptime(given, layout).astimezone(UTC)
        except ValueError:
            continue
    for layout in _CLOCKS:
        try:
            clock = datetime.strptime(given, layout).time()
        except ValueError:
            continue
        local = now.astimezone()
        today = datetime.combine(local.date(), clock).astimezone()
        yesterday = datetime.combine(local.date() - timedelta(days=1), clock).astimezone()
        return (today if today <= local else yesterday).astimezone(UTC)
    raise UsageError(f"{given} is no time: write 02:50, 02:50:30 or 2026-11-30T02:50:00")


def _show_timeline(client: "Client", hours: float, of: str | None, as_json: bool) -> None:
    buckets = min(max(round(hours), 1), 1440)
    # of a day by default: who keeps less refuses an earlier time that is named
    begin = None if hours == _DAY else datetime.now(UTC) - timedelta(hours=hours)
    first = client.cache.history(since=begin, of=of, buckets=buckets)
    others = [name for name in first.replicas if of is None and name != first.server]
    rest = [client.cache.history(since=begin, of=name, buckets=buckets) for name in others]
    if as_json:
        show_json([first, *rest] if rest else first)
        return
    for number, found in enumerate([first, *rest]):
        if number:
            print()
        _show_counts(found)


def _show_counts(found: "HistoryRead") -> None:
    print(f"{found.server}, in UTC, in steps of {found.bucket_seconds // 60} min")
    print()
    show_table(_TIMELINE, map(_bucket_row, found.buckets))
    _show_unknown(found)


def _bucket_row(bucket: "BucketRead") -> tuple[str, ...]:
    begin = f"{bucket.at.astimezone(UTC):%m-%d %H:%M}"
    if not bucket.recorded_seconds:
        return (begin, *["?"] * (len(_TIMELINE) - 1))
    counts = (bucket.hits, bucket.host_hits, bucket.misses, bucket.loads, bucket.evictions)
    waits = (str(bucket.waits), f"{bucket.longest_wait_seconds:.2f} s")
    return (begin, *map(str, counts), *waits)


def _show_unknown(found: "HistoryRead") -> None:
    for each in found.unknown:
        print(f"\n{_gap(each)}" if each is found.unknown[0] else _gap(each))


def _gap(unknown: "UnknownRead") -> str:
    since = "" if unknown.since is None else f" from {moment(unknown.since)}"
    until = (
        "" if unknown.until is None else f" {'to' if since else 'before'} {moment(unknown.until)}"
    )
    return f"nothing is recorded{since}{until}: the server did not run, or could not save it"


def _show_state(client: "Client", at: datetime, around: int, of: str | None, as_json: bool) -> None:
    first = client.cache.state_at(at, of=of)
    others = [name for name in first.replicas if of is None and name != first.server]
    rest = [client.cache.state_at(at, of=name) for name in others]
    margin = timedelta(seconds=around)
    found = [(past, _decisions(client, at, margin, past.server)) for past in (first, *rest)]
    if as_json:
        pairs = [list(each) for each in found]
        show_json(pairs if rest else pairs[0])
        return
    for number, (past, decided) in enumerate(found):
        if number:
            print()
        _show_past(past)
        _show_decided(decided)


def _decisions(client: "Client", at: datetime, margin: timedelta, of: str) -> "PastDecisionList":
    """From the oldest on, if the margin reaches back beyond what is kept."""
    from adaptry.client import ApiError

    until = min(at + margin, datetime.now(UTC))
    try:
        return client.cache.past_decisions(since=at - margin, until=until, of=of, limit=_MOST)
    except ApiError as error:
        if error.code != "time_out_of_range":
            raise
    oldest = client.cache.history(of=of, buckets=1).oldest or at
    since = min(max(at - margin, oldest), at)
    return client.cache.past_decisions(since=since, until=until, of=of, limit=_MOST)


def _show_decided(decided: "PastDecisionList") -> None:
    if decided.items:
        print()
    more = {each.at: each.count for each in decided.more}
    for decision in decided.items:
        print(line_of(decision))
    for when, count in more.items():
        print(f"{when.astimezone(UTC):%H:%M:%S}Z  {text(count)} more decisions in this second")
    if decided.next is not None:
        print("there are more: ask for fewer seconds with --around")


def _show_past(past: "PastRead") -> None:
    cache, where = past.cache, f"{moment(past.at)} on {past.server}"
    if cache is None:
        print(where)
        print(_gap(past.unknown) if past.unknown else "nothing is recorded")
        return
    slots = f"GPU slots {len(cache.gpu) + cache.hidden['gpu']} of {cache.slots}"
    host = f"host {len(cache.host) + cache.hidden['host']} of {cache.host_capacity}"
    print(f"{where}: {slots}, {host}, {cache.waiting} waiting")
    if not cache.engine_up:
        print("the engine was down or asleep: nothing was in memory")
    if not cache.exact:
        print("more happened in this second than was recorded: the slots may have differed")
    _show_tiers(cache)


def _show_tiers(cache: "PastCacheRead") -> None:
    if cache.gpu:
        print()
        show_table(_SLOTS, map(_slot_row, cache.gpu))
    if cache.host:
        print()
        show_table(_HOST, [(r.reference, moment(r.since), text(r.pinned)) for r in cache.host])
    if cache.loading:
        print()
        show_table(("LOADING", "SINCE"), [(r.reference, moment(r.since)) for r in cache.loading])
    if cache.waits:
        print()
        waits = [(w.reference, moment(w.since), f"{w.seconds:.2f}", w.outcome) for w in cache.waits]
        show_table(_WAITS, waits)


def _slot_row(held: "PastResidentRead") -> tuple[str, ...]:
    leases = (str(held.leases), str(held.waiting))
    return (text(held.slot), held.reference, moment(held.since), text(held.pinned), *leases)
