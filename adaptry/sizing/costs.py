"""Costs of an engine: measured, taken from its recorded trace, or assumed, and which is which."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace
from engine.simulation.curve import Points
from engine.simulation.shared_engine import Costs
from engine.types import CacheOutcome

MEASURED, RECORDED, ASSUMED = "measured", "recorded", "assumed"

# one H200, Llama-3.1-8B's shape, rank 16: docs/scale.md
_DEFAULTS = Costs(
    step_seconds=0.00646,
    step_seconds_per_request=0.0000095,
    prefill_seconds=0.0143,
    load_seconds=0.0224,
    activate_seconds=0.00065,
)
_TRANSITIONS = {"load": "disk_to_host", "activate": "host_to_gpu"}
SPREADS = ("overheads", "load_factors", "first_token_factors")
MOST_VALUES = 100  # of a spread
FEWEST_USES = 8
_CURVES = ("steps", "prompt_steps")
_OPTIONAL = ("first_use_seconds", "step_seconds_per_adapter")  # 0 where they are not known
_NAMES = frozenset(each.name for each in fields(Costs)) - {*SPREADS, *_CURVES, *_OPTIONAL}


@dataclass(frozen=True, slots=True)
class KnownCosts:
    """`sources`: for each cost, how it is known."""

    costs: Costs = _DEFAULTS
    sources: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(_NAMES, ASSUMED))

    @property
    def assumed(self) -> list[str]:
        return sorted(name for name, source in self.sources.items() if source == ASSUMED)

    def with_values(self, source: str, **values: float) -> "KnownCosts":
        costs = replace(self.costs, **values)  # type: ignore[arg-type]  # one is an int
        return KnownCosts(costs, {**self.sources, **dict.fromkeys(values, source)})

    def with_first_uses_of(self, trace: Trace) -> "KnownCosts":
        """How much longer an adapter's first request takes, beside its load, than a later one that
        loads it: its name is looked up in the registry.
        """
        used, firsts, later = set[str](), list[float](), list[float]()
        for each in trace.requests:
            if each.adapter is not None and each.first_token_seconds is not None:
                seconds = each.first_token_seconds - each.wait_seconds
                if each.source == CacheOutcome.MISS:
                    (later if each.adapter in used else firsts).append(seconds)
                used.add(each.adapter)
        if min(len(firsts), len(later)) < FEWEST_USES:
            return self
        from statistics import median  # takes as long to import as a small simulation

        more = max(median(firsts) - median(later), 0.0)
        return KnownCosts(replace(self.costs, first_use_seconds=round(more, 6)), self.sources)

    def with_steps(
        self, steps: Points, per_adapter: float = 0.0, prompt_steps: Points = ()
    ) -> "KnownCosts":
        """Of so many requests together for one adapter; what each further adapter among them adds;
        and by how much longer steps of more tokens of a prompt are.
        """
        costs = replace(self.costs, steps=tuple(steps), prompt_steps=tuple(prompt_steps))
        return KnownCosts(replace(costs, step_seconds_per_adapter=per_adapter), self.sources)

    def with_spread(self, name: str, values: Sequence[float]) -> "KnownCosts":
        """At most `MOST_VALUES`, from the smallest to the largest: each the mean of as large a part
        of all, so that what seldom takes long stays in their mean.
        """
        from statistics import fmean  # takes as long to import as a small simulation

        ordered, most = sorted(values), min(len(values), MOST_VALUES)
        ends = [len(ordered) * n // most for n in range(most + 1)] if most else []
        parts = (ordered[begin:end] for begin, end in itertools.pairwise(ends))
        chosen = tuple(round(fmean(part), 6) for part in parts)
        return KnownCosts(replace(self.costs, **{name: chosen}), self.sources)  # type: ignore[arg-type]  # of floats

    def with_loads_of(self, trace: Trace) -> "KnownCosts":
        """The load and the copy as the server recorded them, by bytes where sizes differ."""
        known = self
        for name, transition in _TRANSITIONS.items():
            loads = [each for each in trace.loads if each.transition == transition]
            if loads:
                sizes = [each.size_bytes for each in loads]
                fixed, per_byte = _line(sizes, [each.seconds for each in loads])
                values = {f"{name}_seconds": fixed, f"{name}_seconds_per_byte": per_byte}
                known = known.with_values(RECORDED, **values)
            if loads and name == "load":
                usual = [fixed + each * per_byte for each in sizes]
                factors = [x.seconds / each for x, each in zip(loads, usual, strict=True) if each]
                known = known.with_spread("load_factors", factors)
        return known

    def save(self, path: Path) -> None:
        content = {"costs": asdict(self.costs), "sources": dict(self.sources)}
        try:
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise CommandError(f"{path} can't be written: {error.strerror}") from error


def load_costs(path: Path) -> KnownCosts:
    """What `save` wrote. Raises CommandError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        costs = _costs_of(content["costs"])
        sources = {name: str(content["sources"][name]) for name in _NAMES}
    except OSError as error:
        raise CommandError(f"{path} can't be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise CommandError(f"{path} was not written by --save-costs: {error}") from error
    values = [getattr(costs, name) for name in (*_NAMES, *_OPTIONAL)]
    curves = (costs.steps, costs.prompt_steps)
    spreads = itertools.chain(
        *(getattr(costs, name) for name in SPREADS), *itertools.chain(*curves)
    )
    if min(*values, *spreads) < 0 or costs.max_running < 1:
        raise CommandError(f"{path} has a cost below 0")
    pairs = itertools.chain(*map(itertools.pairwise, curves))
    if any(later <= before for (before, _), (later, _) in pairs):
        raise CommandError(f"{path} has steps in no order")
    return KnownCosts(costs, sources)


def _costs_of(saved: Mapping[str, Any]) -> Costs:
    """Raises ValueError, TypeError, KeyError."""
    values: dict[str, Any] = {name: float(saved[name]) for name in _NAMES}
    values["max_running"] = int(values["max_running"])
    values |= {name: float(saved.get(name, 0.0)) for name in _OPTIONAL}
    values |= {name: tuple(map(float, saved.get(name, ()))) for name in SPREADS}
    for name in _CURVES:
        values[name] = tuple((float(n), float(seconds)) for n, seconds in saved.get(name, ()))
    return Costs(**values)


def _line(sizes: Sequence[int], seconds: Sequence[float]) -> tuple[float, float]:
    """Fixed seconds and seconds per byte; all fixed where sizes hardly differ.

    The mean, not the median: a load that took long keeps others waiting as long.
    """
    from statistics import fmean, linear_regression

    if len(sizes) < 8 or max(sizes) <= 2 * min(sizes):
        return fmean(seconds), 0.0
    slope, fixed = linear_regression(sizes, seconds)
    if slope <= 0 or fixed < 0:
        return fmean(seconds), 0.0
    return fixed, slope
