"""Report of a sizing: tables for people, JSON for programs, and the line of `adaptry serve`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.prediction import DEFAULT_POLICY, Prediction, Setting
from adaptry.sizing.rank_split import RankSplit
from adaptry.sizing.sweep import Sizing, Sweep
from adaptry.sizing.workload import RankClass, Workload, rank_classes
from adaptry.terminal.output import Json, JsonValue, plain

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the trace says of the server that recorded it, beside what the simulation predicts."""

    setting: Setting
    slot_hit_ratio: float
    memory_hit_ratio: float
    loads: int
    first_token_p50: float
    first_token_p99: float
    predicted: Prediction


@dataclass(frozen=True, slots=True)
class Report:
    """`model`: for the line that follows. `recorded` None: the trace has no server or no hits."""

    workload: Workload
    known: KnownCosts
    sizing: Sizing
    model: str
    max_rank: int | None
    recorded: Recorded | None
    split: RankSplit | None = None

    @property
    def slot_bytes(self) -> int | None:
        return self.workload.slot_bytes(self.max_rank)

    @property
    def command(self) -> str:
        """The line that serves with this setting."""
        setting = self.sizing.setting
        words = [f"adaptry serve {self.model} --max-loras {setting.slots}"]
        words.append(f"--max-cpu-loras {setting.host_places}")
        if setting.host_bytes is not None:
            words.append(f"--host-cache-bytes {setting.host_bytes}")
        if self.max_rank:
            words.append(f"--max-lora-rank {self.max_rank}")
        if setting.replicas > 1:
            words.append(f"--replicas {setting.replicas}")
        if setting.eviction_policy is not DEFAULT_POLICY:
            words.append(f"--eviction-policy {setting.eviction_policy}")
        return " ".join(words)

    @property
    def host_bytes(self) -> int | None:
        """Of the largest adapters that the host places can hold."""
        sizes = sorted(self.workload.sizes.values(), reverse=True)
        setting = self.sizing.setting
        held = sum(sizes[: setting.host_places])
        return (held if setting.host_bytes is None else min(held, setting.host_bytes)) or None

    @property
    def ranks(self) -> Sequence[RankClass]:
        return rank_classes(self.workload)

    # ---- for programs --------------------------------------------------------------------

    def as_json(self) -> Json:
        goal, sizing = self.sizing.goal, self.sizing
        sweeps: list[JsonValue] = [self._sweep_json(each) for each in sizing.sweeps]
        ranks: list[JsonValue] = [
            {"rank": each.rank, "adapters": each.adapters, "share": each.share}
            for each in self.ranks
        ]
        return {
            "goal": {"first_token_seconds": goal.first_token_seconds, "share": goal.share},
            "is_met": sizing.is_met,
            "setting": _json(asdict(sizing.setting)),
            "prediction": _prediction_json(sizing.prediction),
            "slower_prediction": _prediction_json(sizing.slower),
            "command": self.command,
            "requests": self.workload.for_adapters,
            "base_model_requests": len(self.workload.arrivals) - self.workload.for_adapters,
            "adapters": self.workload.adapters,
            "slot_bytes": self.slot_bytes,
            "host_bytes": self.host_bytes,
            "ranks": ranks,
            "rank_split": None if self.split is None else _split_json(self.split),
            "costs": _json(asdict(self.known.costs)),
            "cost_sources": _json(dict(self.known.sources)),
            "recorded": None if self.recorded is None else _json(asdict(self.recorded)),
            "sweeps": sweeps,
            "policies": [_prediction_json(each) for each in sizing.policies],
        }

    def _sweep_json(self, sweep: Sweep) -> Json:
        rows: list[JsonValue] = [
            {**_prediction_json(each), "gpu_bytes": self.gpu_bytes(each.setting)}
            for each in sweep.predictions
        ]
        return {"over": sweep.over, "chosen": sweep.chosen, "knee": sweep.knee, "rows": rows}

    def gpu_bytes(self, setting: Setting) -> int | None:
        """Of all slots of all replicas."""
        each = self.slot_bytes
        return None if each is None else each * setting.slots * setting.replicas


def _json(content: dict[str, object]) -> JsonValue:
    found = plain(content)
    assert isinstance(found, dict)
    return found


def _split_json(split: RankSplit) -> Json:
    return {
        "rank": split.rank,
        "share_within": split.share_within,
        "mixed": _prediction_json(split.mixed),
        "small": _prediction_json(split.small),
        "large": _prediction_json(split.large),
    }


def _prediction_json(prediction: Prediction) -> Json:
    found = asdict(prediction)
    return {**found, "loads_per_request": prediction.loads_per_request}
