"""Rank split: small ranks by engines of their own, which have more slots in the same memory."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from adaptry.sizing.prediction import Prediction, Setting, predict
from adaptry.sizing.workload import Workload, rank_classes
from engine.simulation.replay import Arrival
from engine.simulation.shared_engine import BASE_MODEL, Costs


@dataclass(frozen=True, slots=True)
class RankSplit:
    """Two kinds of engines: `small` for adapters of at most `rank`, `large` for the others.

    `mixed`: as many engines with as many bytes of slots, each for all adapters.
    """

    rank: int
    mixed: Prediction
    small: Prediction
    large: Prediction

    @property
    def share_within(self) -> float:
        parts = (self.small, self.large)
        total = sum(each.requests for each in parts)
        return sum(each.share_within * each.requests for each in parts) / max(total, 1)


def split_by_rank(
    workload: Workload,
    costs: Costs,
    setting: Setting,
    max_rank: int,
    *,
    most_slots: int,
    first_token_seconds: float,
    warm_share: float = 0.0,
    on_prediction: Callable[[], object] = lambda: None,
) -> RankSplit | None:
    """The best one of the engines of this setting, or of two of them if it is one. None: all
    adapters have one rank, or slots of `max_rank` are too small for any other.

    Those of which no rank is known go to the large ones.
    """
    engines = max(setting.replicas, 2)

    def predicted(part: Workload, chosen: Setting) -> Prediction:
        on_prediction()
        goal = first_token_seconds
        return predict(part, costs, chosen, first_token_seconds=goal, warm_share=warm_share)

    found: list[RankSplit] = []
    boundaries = [each.rank for each in rank_classes(workload)[1:] if 0 < each.rank < max_rank]
    if not boundaries:
        return None
    mixed = predicted(workload, replace(setting, replicas=engines))
    for rank in boundaries:
        few, many = _small_engines(workload, rank, engines)
        if not few or not many:
            continue
        slots = min(setting.slots * max_rank // rank, most_slots)
        places = max(setting.host_places, slots)
        small = replace(setting, replicas=few, slots=slots, host_places=places)
        parts = _parts(workload, rank, few, engines)
        small_prediction = predicted(parts[0], small)
        large_prediction = predicted(parts[1], replace(setting, replicas=many))
        found.append(RankSplit(rank, mixed, small_prediction, large_prediction))
    return max(found, key=lambda each: each.share_within, default=None)


def _small_engines(workload: Workload, rank: int, engines: int) -> tuple[int, int]:
    """How many engines for the small ranks, and for the others, by their requests; 0, 0: there are
    none of one kind."""
    for_adapters = [each for each in workload.arrivals if each.adapter != BASE_MODEL]
    small = sum(_is_small(workload, each, rank) for each in for_adapters)
    if not small or small == len(for_adapters):
        return 0, 0
    few = min(max(round(engines * small / len(for_adapters)), 1), engines - 1)
    return few, engines - few


def _is_small(workload: Workload, arrival: Arrival, rank: int) -> bool:
    known = workload.ranks.get(arrival.adapter)
    return known is not None and known <= rank


def _parts(workload: Workload, rank: int, few: int, engines: int) -> tuple[Workload, Workload]:
    """Of the small ranks, and of the others; requests for the base model go to all engines."""
    small: list[Arrival] = []
    large: list[Arrival] = []
    turns = itertools.cycle(range(engines))
    for each in workload.arrivals:
        is_base = each.adapter == BASE_MODEL
        to_small = next(turns) < few if is_base else _is_small(workload, each, rank)
        (small if to_small else large).append(each)
    return _workload(workload, small), _workload(workload, large)


def _workload(whole: Workload, arrivals: Sequence[Arrival]) -> Workload:
    adapters = {each.adapter for each in arrivals} - {BASE_MODEL}
    return Workload(arrivals, len(adapters), whole.sizes, whole.ranks)
