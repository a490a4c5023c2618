"""Sweep: predictions over one dimension after the other, and the smallest setting that will do."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from adaptry.sizing.pace import scale
from adaptry.sizing.prediction import Prediction, Setting, predict
from adaptry.sizing.rank_split import RankSplit, split_by_rank
from adaptry.sizing.workload import Workload
from engine.simulation.shared_engine import Costs
from engine.types import EvictionPolicy

REPLICAS = (1, 2, 3, 4, 6, 8)
MOST_SLOTS = 256
_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
SLOWER = 1.1  # of steps: as far as a machine's speed differs from one hour to another
_ENOUGH = 0.001  # of a ratio: what more would bring is below what a simulation knows


@dataclass(frozen=True, slots=True)
class Goal:
    """The first token within so many seconds, for this share of the requests."""

    first_token_seconds: float
    share: float

    def is_met_by(self, prediction: Prediction) -> bool:
        return prediction.share_within >= self.share


@dataclass(frozen=True, slots=True)
class Choices:
    """The values to try; empty: those that fit the workload."""

    slots: Sequence[int] = ()
    host_places: Sequence[int] = ()
    replicas: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Sweep:
    """`over`: the field of the setting that differs. `knee`: from where on more brings little."""

    over: str
    predictions: Sequence[Prediction]
    chosen: int
    knee: int

    @property
    def values(self) -> list[int]:
        return [getattr(each.setting, self.over) for each in self.predictions]


@dataclass(frozen=True, slots=True)
class Sizing:
    """`is_met`: whether the chosen setting reaches the goal; `slower`: what it would do with steps
    that take `SLOWER` times as long.
    """

    goal: Goal
    setting: Setting
    prediction: Prediction
    is_met: bool
    slower: Prediction
    sweeps: Sequence[Sweep] = field(default_factory=list)
    policies: Sequence[Prediction] = ()
    """The chosen setting with each eviction policy."""


class Sizer:
    """Simulates settings, each once."""

    def __init__(
        self, workload: Workload, costs: Costs, goal: Goal, base: Setting, warm_share: float
    ) -> None:
        """`base`: what the settings have in common."""
        self._workload, self._costs, self._goal = workload, costs, goal
        self._base, self._warm_share = base, warm_share
        self._known: dict[Setting, Prediction] = {}
        self.on_prediction: Callable[[], object] = lambda: None

    def predict(self, setting: Setting) -> Prediction:
        if setting not in self._known:
            self._known[setting] = self._simulate(setting, self._costs)
        return self._known[setting]

    def _simulate(self, setting: Setting, costs: Costs) -> Prediction:
        found = predict(
            self._workload,
            costs,
            setting,
            first_token_seconds=self._goal.first_token_seconds,
            warm_share=self._warm_share,
        )
        self.on_prediction()
        return found

    def size(self, choices: Choices) -> Sizing:
        """First the replicas, with slots and host places for all; then as few slots as reach the
        goal with them; then as few host places. Where nothing reaches it, the knee is chosen."""
        adapters = self._workload.adapters
        slots = sorted(set(choices.slots) or _grid(1, min(adapters, MOST_SLOTS)))
        places = max(choices.host_places, default=max(adapters, slots[-1]))
        ample = replace(self._base, slots=slots[-1], host_places=max(places, slots[-1]))
        replicas = self._sweep("replicas", ample, self._replicas(choices, ample))
        setting = replicas.predictions[replicas.chosen].setting
        by_slots = self._sweep("slots", setting, slots)
        setting = by_slots.predictions[by_slots.chosen].setting
        most = max(adapters, setting.slots)
        tried = sorted(set(choices.host_places) or _grid(setting.slots, most))
        tried = [each for each in tried if each >= setting.slots] or [setting.slots]
        by_places = self._sweep("host_places", setting, tried)
        chosen = by_places.predictions[by_places.chosen]
        is_met = self._goal.is_met_by(chosen)
        policies = [replace(chosen.setting, eviction_policy=each) for each in EvictionPolicy]
        return Sizing(
            self._goal,
            chosen.setting,
            chosen,
            is_met,
            self._simulate(chosen.setting, scale(self._costs, SLOWER)),
            [by_slots, by_places, replicas],
            list(map(self.predict, policies)),
        )

    def split_by_rank(self, setting: Setting, max_rank: int) -> RankSplit | None:
        """What engines of their own for small ranks would bring; None: all have one rank."""
        return split_by_rank(
            self._workload,
            self._costs,
            setting,
            max_rank,
            most_slots=MOST_SLOTS,
            first_token_seconds=self._goal.first_token_seconds,
            warm_share=self._warm_share,
            on_prediction=self.on_prediction,
        )

    def _replicas(self, choices: Choices, ample: Setting) -> list[int]:
        """Up to the first that reaches the goal, and one more to compare with."""
        if choices.replicas:
            return sorted(set(choices.replicas))
        tried: list[int] = []
        for count in REPLICAS:
            tried.append(count)
            if len(tried) > 1 and self._is_met(ample, tried[-2]):
                break
        return tried

    def _is_met(self, ample: Setting, replicas: int) -> bool:
        return self._goal.is_met_by(self.predict(replace(ample, replicas=replicas)))

    def _sweep(self, over: str, setting: Setting, values: Iterable[int]) -> Sweep:
        tried = list(values)
        found = [self.predict(replace(setting, **_field(over, value))) for value in tried]
        knee = find_knee(tried, [_merit(over, each) for each in found])
        reached = (place for place, each in enumerate(found) if self._goal.is_met_by(each))
        return Sweep(over, found, next(reached, _best(found, knee)), knee)


def _field(name: str, value: int) -> dict[str, Any]:
    return {name: value}


def _merit(over: str, prediction: Prediction) -> float:
    """What more of it is for."""
    match over:
        case "slots":
            return prediction.slot_hit_ratio
        case "host_places":
            return prediction.memory_hit_ratio
        case _:
            return prediction.share_within


def _best(found: Sequence[Prediction], knee: int) -> int:
    """Where no value reaches the goal: the first that is as near to it as any, or the knee."""
    most = max(each.share_within for each in found)
    near = (n for n, each in enumerate(found) if each.share_within >= most - 0.01)
    return max(next(near), knee) if most else knee


def find_knee(values: Sequence[int], merits: Sequence[float]) -> int:
    """The point of the curve that is farthest above the line from its first to its last point."""
    width, height = values[-1] - values[0], merits[-1] - merits[0]
    if not width or height <= _ENOUGH:
        return 0
    above = [
        (merit - merits[0]) / height - (value - values[0]) / width
        for value, merit in zip(values, merits, strict=True)
    ]
    return above.index(max(above))


def _grid(least: int, most: int) -> list[int]:
    steps = [step for step in _STEPS if least < step < most]
    larger = []
    step = _STEPS[-1] * 2
    while step < most:
        larger.append(step)
        step *= 2
    return sorted({least, *steps, *(each for each in larger if each > least), most})
