"""Report of a sizing: tables for people, JSON for programs, and the line of `adaptry serve`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from adaptry.sizing.costs import KnownCosts
from adaptry.sizing.prediction import DEFAULT_POLICY, Prediction, Setting
from adaptry.sizing.sweep import Goal, Sizing, Sweep
from adaptry.sizing.workload import RankClass, Workload, rank_classes
from adaptry.terminal.output import Json, JsonValue, plain, size

if TYPE_CHECKING:
    from rich.table import Table

GIB = 2**30
_HEADINGS = {"slots": "SLOTS", "host_places": "HOST PLACES", "replicas": "REPLICAS"}
_MEASURES = ("IN A SLOT", "IN MEMORY", "FIRST P50", "P99", "WAIT P99", "LOADS/REQ", "IN GOAL")
_WIDTH = 150


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

    @property
    def slot_bytes(self) -> int | None:
        return self.workload.slot_bytes(self.max_rank)

    @property
    def command(self) -> str:
        """The line that serves with this setting."""
        setting = self.sizing.setting
        words = [f"adaptry serve {self.model} --max-loras {setting.slots}"]
        words.append(f"--max-cpu-loras {setting.host_places}")
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
        return sum(sizes[: self.sizing.setting.host_places]) or None

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
            "command": self.command,
            "requests": len(self.workload.arrivals),
            "adapters": self.workload.adapters,
            "slot_bytes": self.slot_bytes,
            "host_bytes": self.host_bytes,
            "ranks": ranks,
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

    # ---- for people ----------------------------------------------------------------------

    def show(self) -> None:
        from rich.console import Console

        console = Console(width=_WIDTH, highlight=False, soft_wrap=True)
        for line in self._introduction():
            console.print(line, markup=False)
        for sweep in self.sizing.sweeps:
            console.print()
            console.print(self._table(sweep))
        console.print()
        console.print(self._policy_table())
        for line in self._conclusion():
            console.print(line, markup=False)

    def _introduction(self) -> list[str]:
        workload, goal = self.workload, self.sizing.goal
        lines = [
            f"{len(workload.arrivals):,} requests for {workload.adapters:,} adapters in "
            f"{workload.seconds:,.0f} s; goal: {_goal_text(goal)}"
        ]
        costs = self.known.costs
        step, prompt = costs.step_seconds_per_request, costs.prefill_seconds_per_token
        lines.append(
            f"step {_ms(costs.step_seconds)} + {_ms(step)} a request, "
            f"prompt {_ms(costs.prefill_seconds)} + {_ms(prompt)} a token, "
            f"load {_cost(costs.load_seconds, costs.load_seconds_per_byte)}, "
            f"copy {_cost(costs.activate_seconds, costs.activate_seconds_per_byte)}"
        )
        if assumed := self.known.assumed:
            names = "all of them" if len(assumed) == len(self.known.sources) else ", ".join(assumed)
            lines.append(f"assumed, as of an H200 and an 8B model (see --calibrate): {names}")
        if (recorded := self.recorded) is not None:
            setting, predicted = recorded.setting, recorded.predicted
            lines.append(
                f"as it was, {setting.slots} slots and {setting.host_places} host places: "
                f"in a slot {recorded.slot_hit_ratio:.1%} (predicted "
                f"{predicted.slot_hit_ratio:.1%}), loads {recorded.loads:,} ({predicted.loads:,}), "
                f"first token p50 {_ms(recorded.first_token_p50)} "
                f"({_ms(predicted.first_token_p50)}), p99 {_ms(recorded.first_token_p99)} "
                f"({_ms(predicted.first_token_p99)})"
            )
        return lines

    def _table(self, sweep: Sweep) -> "Table":
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="")
        for name in (_HEADINGS[sweep.over], *_MEASURES, "GPU", "PER GPU-GiB"):
            table.add_column(name, justify="right")
        table.add_column("")
        for place, each in enumerate(sweep.predictions):
            marks = []
            if place == sweep.chosen:
                marks.append("chosen")
            if place == sweep.knee:
                marks.append("knee")
            before = sweep.predictions[place - 1] if place else None
            table.add_row(
                str(sweep.values[place]),
                *_measures(each),
                size(self.gpu_bytes(each.setting)) if self.slot_bytes else "-",
                self._bought(before, each),
                ", ".join(marks),
            )
        return table

    def _policy_table(self) -> "Table":
        """Whether another eviction policy would do better with the chosen setting."""
        from rich.table import Table

        table = Table(box=None, pad_edge=False, header_style="")
        table.add_column("POLICY")
        for name in _MEASURES:
            table.add_column(name, justify="right")
        table.add_column("")
        for each in self.sizing.policies:
            policy = each.setting.eviction_policy
            mark = "chosen" if policy is self.sizing.setting.eviction_policy else ""
            table.add_row(str(policy), *_measures(each), mark)
        return table

    def _bought(self, before: Prediction | None, after: Prediction) -> str:
        """Points of the share within the goal, for each further GiB of the GPU."""
        if before is None:
            return "-"
        less, more = self.gpu_bytes(before.setting), self.gpu_bytes(after.setting)
        if less is None or more is None or more <= less:
            return "-"
        points = (after.share_within - before.share_within) * 100
        return f"{points / ((more - less) / GIB):+,.1f} points"

    def _conclusion(self) -> list[str]:
        sizing, lines = self.sizing, [""]
        if not sizing.is_met:
            lines.append(
                f"Nothing tried reaches the goal: {sizing.prediction.share_within:.1%} of the "
                f"requests would be within it at best near the knee."
            )
        if len(self.ranks) > 1 and self.slot_bytes is not None:
            lines += self._rank_lines(self.slot_bytes)
        if (held := self.host_bytes) is not None:
            lines.append(
                f"Host memory for {sizing.setting.host_places} places: at most {size(held)}."
            )
        lines.append(self.command)
        return lines

    def _rank_lines(self, slot_bytes: int) -> list[str]:
        largest = self.max_rank or self.ranks[0].rank
        lines = []
        for each in self.ranks:
            padding = slot_bytes * (1 - each.rank / largest) * self.sizing.setting.slots
            waste = (
                f"padding {size(padding)} if all slots held these" if padding > 0 else "no padding"
            )
            lines.append(
                f"Rank {each.rank}: {each.adapters} adapters, {each.share:.1%} of the requests, "
                f"{waste}."
            )
        return lines


def _measures(each: Prediction) -> tuple[str, ...]:
    return (
        f"{each.slot_hit_ratio:.1%}",
        f"{each.memory_hit_ratio:.1%}",
        _ms(each.first_token_p50),
        _ms(each.first_token_p99),
        _ms(each.wait_p99),
        f"{each.loads_per_request:.3f}",
        f"{each.share_within:.1%}",
    )


def _goal_text(goal: Goal) -> str:
    return f"first token within {goal.first_token_seconds:g} s for {goal.share:.3%}".replace(
        ".000%", "%"
    )


def _ms(seconds: float) -> str:
    amount = seconds * 1000
    return f"{amount:,.0f} ms" if amount >= 10 else f"{amount:.3g} ms"


def _cost(fixed: float, per_byte: float) -> str:
    return _ms(fixed) + (f" + {_ms(per_byte * 2**20)} a MiB" if per_byte else "")


def _json(content: dict[str, object]) -> JsonValue:
    found = plain(content)
    assert isinstance(found, dict)
    return found


def _prediction_json(prediction: Prediction) -> Json:
    found = asdict(prediction)
    return {**found, "loads_per_request": prediction.loads_per_request}
