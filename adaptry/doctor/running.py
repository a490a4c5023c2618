"""Checks of a running server over HTTP: its parts, what its alerts watch, its last decisions."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from adaptry.client import AdaptryError, ApiError, Client, NoAnswer
from adaptry.client.models import CacheRead, DecisionRead
from adaptry.client.transport.http import Answer, Options
from adaptry.client.transport.plain_exchange import PlainExchange
from adaptry.client.transport.requests import Request
from adaptry.doctor.findings import Check, Finding, broken, ok, warning
from adaptry.terminal.output import counted, moment, size

SECONDS = 10.0
WINDOW = timedelta(minutes=5)
MOST_DECISIONS = 1000
# as the alert rules have them
THRASH, LONG_WAIT_SECONDS, OLD_JOB_SECONDS, LONG_QUEUE_SECONDS = 0.2, 30.0, 1800.0, 600.0
NOTABLE = ("refused", "load_failed", "drifted", "engine_lost", "engine_ready", "fell_back")
RUNBOOKS = "see the documentation: Runbooks"
KEY = "set ADAPTRY_API_KEY to a key that may operate"
START = "start it, or write --server http://HOST:PORT"
ELSEWHERE = "see whether `adaptry serve` runs there, or name another with --server URL"
_SAMPLE = re.compile(r"^(adaptry_\w+)(?:\{[^}]*\})? (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Metrics:
    """Each of our metrics, with the values of its series: a fleet has one for each replica."""

    values: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def total(self, name: str) -> float:
        """Of a counter."""
        return sum(self._of(name))

    def worst(self, name: str) -> float:
        """Of a gauge: the alert rules look at each series too."""
        return max(self._of(name), default=0.0)

    def zeros(self, name: str) -> str:
        """How many of its series are 0, in words; what is not there is not known."""
        found = self._of(name)
        count = sum(value == 0.0 for value in found)
        return f"{count} of {len(found)}" if count else ""

    def _of(self, name: str) -> Sequence[float]:
        return self.values.get(f"adaptry_{name}", ())


@dataclass(frozen=True, slots=True)
class RunningServer:
    """`key`: needs the scope `operate` for all but the parts."""

    url: str
    client: Client
    key: str | None

    def checks(self) -> Iterator[tuple[str, Check]]:
        yield "parts", self.check_parts
        yield "alerts", self.check_alerts
        yield "cache", self.check_cache
        yield "decisions", self.check_decisions

    def check_answers(self) -> Finding:
        """Whether anything answers there, and as a server of ours."""
        try:
            status = self._get("/healthz").status_code
        except OSError:
            return broken("server", f"no answer from {self.url}", START)
        if status != 200:
            return broken("server", f"{self.url}/healthz answers {status}", _fix_of(status))
        return ok("server", f"{self.url} answers")

    def check_parts(self) -> Finding:
        """Its database, engine and store, as the server itself finds them."""
        answer = self._get("/readyz")
        if not (parts := _parts_of(answer)):
            why = f"/readyz answers {answer.status_code} and names no parts"
            return broken("parts", why, ELSEWHERE)
        bad = [f"{name}: {state}" for name, state in parts.items() if state != "ok"]
        if bad:
            return broken("parts", f"not ready: {'; '.join(bad)}", RUNBOOKS)
        return ok("parts", f"{', '.join(parts)} answer")

    def check_alerts(self) -> Finding:
        """What the alert rules would say of this moment."""
        answer = self._get("/metrics")
        if answer.status_code != 200:
            fix = _fix_of(answer.status_code)
            return _unreadable("alerts", f"/metrics answers {answer.status_code}", fix)
        metrics = read_metrics(answer.content.decode(errors="replace"))
        if not metrics.values:
            return _unreadable("alerts", "/metrics has none of Adaptry's series", ELSEWHERE)
        critical, other = list(_critical(metrics)), list(_warnings(metrics))
        if critical:
            return broken("alerts", "; ".join([*critical, *other]), RUNBOOKS)
        if other:
            mend = self._mend() if metrics.worst("thrash_ratio") > THRASH else ""
            return warning("alerts", "; ".join(other), f"{mend} {RUNBOOKS}".strip())
        return ok("alerts", "nothing that this looks at is wrong now")

    def _mend(self) -> str:
        """The cheapest change against thrash, and its gain, as the server's shadows have it."""
        try:
            return self.client.cache.policy().mend
        except AdaptryError:  # an older server, or a fleet's ingress
            return ""

    def check_cache(self) -> Finding:
        cache = self._cache("cache")
        if isinstance(cache, Finding):
            return cache
        detail = (
            f"{len(cache.gpu) + cache.hidden['gpu']} of {cache.slots} slots, "
            f"{len(cache.host) + cache.hidden['host']} of {cache.host_capacity} places, "
            f"{size(cache.host_bytes)}; {cache.waiting} requests wait"
        )
        return ok("cache", detail)

    def check_decisions(self) -> Finding:
        """The last minutes: how many adapters for how many places, and what went wrong."""
        cache = self._cache("decisions")
        if isinstance(cache, Finding):
            return cache
        return explain_decisions(self.client.cache.decisions(limit=MOST_DECISIONS).items, cache)

    def _cache(self, check: str) -> CacheRead | Finding:
        try:
            return self.client.cache.show()
        except ApiError as error:
            return _unreadable(check, str(error), _fix_of(error.status))
        except AdaptryError as error:
            return _unreadable(check, str(error), RUNBOOKS)

    def _get(self, path: str) -> Answer:
        exchange = PlainExchange(Options(self.url, self.key, SECONDS))
        try:
            return exchange.send(Request("GET", path))
        except NoAnswer as error:
            raise OSError(f"{path}: {error.reason}") from error
        finally:
            exchange.close()


def _parts_of(answer: Answer) -> dict[str, str]:
    try:
        content = json.loads(answer.content)
    except ValueError:
        return {}
    found = content.get("parts") if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def read_metrics(text: str) -> Metrics:
    """Of the text of /metrics."""
    found: dict[str, list[float]] = {}
    for name, value in _SAMPLE.findall(text):
        found.setdefault(name, []).append(float(value))
    return Metrics(found)


def explain_decisions(decisions: list[DecisionRead], cache: CacheRead) -> Finding:
    """`decisions`: the oldest first."""
    if not decisions:
        return ok("decisions", "none yet")
    newest = decisions[-1].at
    last = [each for each in decisions if each.at >= newest - WINDOW]
    asked = {each.reference for each in last if each.kind == "looked_up" and each.reference}
    evicted = [each for each in last if each.kind == "evicted" and each.tier == "host"]
    notable = [f"{moment(each.at)} {each.sentence}" for each in last if each.kind in NOTABLE]
    versions = counted(len(asked), "version")
    detail = (
        f"since {moment(last[0].at)}: {versions} asked for, {cache.slots} slots and "
        f"{cache.host_capacity} places, {len(evicted)} evicted from host memory"
    )
    shown = "; ".join([detail, *notable[-3:]])
    if evicted and len(asked) > cache.host_capacity:
        return warning("decisions", shown, f"raise --max-cpu-loras to {len(asked)}, or pin fewer")
    if notable:
        return warning("decisions", shown, f"`adaptry why NAME` explains one; {RUNBOOKS}")
    return ok("decisions", shown)


def _critical(metrics: Metrics) -> Iterator[str]:
    if away := metrics.zeros("engine_up"):
        yield "no engine serves" if away == "1 of 1" else f"{away} engines do not serve"
    if metrics.zeros("database_up"):
        yield "the database can't be used"
    if (waited := metrics.worst("oldest_wait_seconds")) > LONG_WAIT_SECONDS:
        yield f"a request has waited {waited:.0f} s for a slot"
    if loads := metrics.total("in_step_loads_total"):
        yield f"{counted(loads, 'load')} within the engine's steps"


def _warnings(metrics: Metrics) -> Iterator[str]:
    if (share := metrics.worst("thrash_ratio")) > THRASH:
        yield f"{share:.0%} of the lookups thrash"
    if (age := metrics.worst("ingest_oldest_seconds")) > OLD_JOB_SECONDS:
        yield f"a registration is {age / 60:.0f} minutes old"
    if (waited := metrics.worst("ingest_wait_seconds")) > LONG_QUEUE_SECONDS:
        yield f"a registration has waited {waited / 60:.0f} minutes for its turn"
    for name, noun, what in (  # with the command that shows more
        ("rates_counted_alone_total", "rate", "counted by this server alone"),
        ("engine_ends_total", "engine", "replaced"),
        ("load_failures_total", "load", "failed (`adaptry cache decisions`)"),
        ("drift_total", "adapter", "elsewhere than the controller had recorded"),
        (
            "quarantines_total",
            "version",
            "quarantined (`adaptry adapter search --state quarantined`)",
        ),
    ):
        if count := metrics.total(name):
            yield f"{counted(count, noun)} {what} since the start"


def _fix_of(status: int) -> str:
    """No key mends an engine that is away, or another server."""
    if status in {401, 403}:
        return KEY
    return RUNBOOKS if status >= 500 else ELSEWHERE


def _unreadable(check: str, why: str, fix: str) -> Finding:
    return warning(check, f"can't be read: {why}", fix)
