"""Tables of a sizing, for people: one for each dimension, and the line of `adaptry serve`."""

from collections.abc import Iterable, Sequence

from adaptry.sizing.prediction import Prediction, Setting
from adaptry.sizing.rank_split import RankSplit
from adaptry.sizing.report import Report
from adaptry.sizing.sweep import SLOWER, Goal, Sweep
from adaptry.terminal.output import size
from engine.simulation.shared_engine import Costs

GIB = 2**30
_HEADINGS = {"slots": "SLOTS", "host_places": "HOST PLACES", "replicas": "REPLICAS"}
_MEASURES = ("IN A SLOT", "IN MEMORY", "FIRST P50", "P99", "WAIT P99", "LOADS/REQ", "IN GOAL")


class Tables:
    """Prints a report."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._sizing = report.sizing

    def show(self) -> None:
        for line in self._introduction():
            print(line)
        for sweep in self._sizing.sweeps:
            _show_table(
                (_HEADINGS[sweep.over], *_MEASURES, "GPU", "PER GPU-GiB"), self._rows(sweep)
            )
        _show_table(("POLICY", *_MEASURES), self._policy_rows(), is_named=True)
        for line in self._conclusion():
            print(line)

    def _introduction(self) -> list[str]:
        workload, goal = self._report.workload, self._sizing.goal
        beside = len(workload.arrivals) - workload.for_adapters
        others = f" and {beside:,} for the base model" if beside else ""
        lines = [
            f"{workload.for_adapters:,} requests for {workload.adapters:,} adapters{others} in "
            f"{workload.seconds:,.0f} s; goal: {_goal_text(goal)}"
        ]
        costs = self._report.known.costs
        prompt = costs.prefill_seconds_per_token
        overhead = _median(costs.overheads)
        server = f", server {_ms(overhead)}" if overhead else ""
        lines.append(
            f"{_step(costs)}, "
            f"prompt {_ms(costs.prefill_seconds)} + {_ms(prompt)} a token, "
            f"load {_cost(costs.load_seconds, costs.load_seconds_per_byte)}, "
            f"copy {_cost(costs.activate_seconds, costs.activate_seconds_per_byte)}{server}"
        )
        if assumed := self._report.known.assumed:
            names = (
                "all of them"
                if len(assumed) == len(self._report.known.sources)
                else ", ".join(assumed)
            )
            lines.append(f"assumed, as of an H200 and an 8B model (see --calibrate): {names}")
        if (recorded := self._report.recorded) is not None:
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

    def _rows(self, sweep: Sweep) -> Iterable[Sequence[str]]:
        for place, each in enumerate(sweep.predictions):
            marks = []
            if place == sweep.chosen:
                marks.append("chosen")
            if place == sweep.knee:
                marks.append("knee")
            before = sweep.predictions[place - 1] if place else None
            yield (
                str(sweep.values[place]),
                *_measures(each),
                size(self._report.gpu_bytes(each.setting)) if self._report.slot_bytes else "-",
                self._bought(before, each),
                ", ".join(marks),
            )

    def _policy_rows(self) -> Iterable[Sequence[str]]:
        """Whether another eviction policy would do better with the chosen setting."""
        for each in self._sizing.policies:
            policy = each.setting.eviction_policy
            mark = "chosen" if policy is self._sizing.setting.eviction_policy else ""
            yield (str(policy), *_measures(each), mark)

    def _bought(self, before: Prediction | None, after: Prediction) -> str:
        """Points of the share within the goal, for each further GiB of the GPU."""
        if before is None:
            return "-"
        less, more = self._report.gpu_bytes(before.setting), self._report.gpu_bytes(after.setting)
        if less is None or more is None or more <= less:
            return "-"
        points = (after.share_within - before.share_within) * 100
        return f"{points / ((more - less) / GIB):+,.1f} points"

    def _conclusion(self) -> list[str]:
        sizing, lines = self._sizing, [""]
        if not sizing.is_met:
            share = f"{sizing.prediction.share_within:.1%} of the requests"
            lines.append(f"Nothing tried reaches the goal: {share} would be within it.")
        if sizing.prediction.first_token_p99:
            lines.append(_range_text(sizing.prediction, sizing.slower))
        if len(self._report.ranks) > 1 and self._report.slot_bytes is not None:
            lines += self._rank_lines(self._report.slot_bytes)
        if (held := self._report.host_bytes) is not None:
            lines.append(
                f"Host memory for {sizing.setting.host_places} places: at most {size(held)}."
            )
        lines.append(self._report.command)
        return lines

    def _rank_lines(self, slot_bytes: int) -> list[str]:
        largest = self._report.max_rank or self._report.ranks[0].rank
        lines = []
        for each in self._report.ranks:
            padding = slot_bytes * (1 - each.rank / largest) * self._sizing.setting.slots
            waste = (
                f"padding {size(padding)} if all slots held these" if padding > 0 else "no padding"
            )
            lines.append(
                f"Rank {each.rank}: {each.adapters} adapters, {each.share:.1%} of the requests, "
                f"{waste}."
            )
        if (split := self._report.split) is not None:
            lines.append(_split_text(split, largest))
        return lines


def _show_table(
    headings: Sequence[str], rows: Iterable[Sequence[str]], *, is_named: bool = False
) -> None:
    """Numbers to the right; to the left the marks at the end, and the first column if `is_named`.

    Rich's tables look the same, and take as long to import as the simulation.
    """
    lines = [(*headings, ""), *rows]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for first, *others, mark in lines:
        cells = [first.ljust(widths[0]) if is_named else first.rjust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:-1], strict=True)]
        print("  ".join([*cells, mark]).rstrip())


def _split_text(split: RankSplit, largest: int) -> str:
    small, large = split.small.setting, split.large.setting
    return (
        f"By rank: {_engines(small)} of {small.slots} slots of rank {split.rank}, and "
        f"{_engines(large)} of {large.slots} of rank {largest}, in the memory of "
        f"{split.mixed.setting.replicas} of {large.slots} for all: {split.share_within:.1%} in the "
        f"goal ({split.mixed.share_within:.1%} for all)."
    )


def _engines(setting: Setting) -> str:
    return f"{setting.replicas} engine{'s' if setting.replicas > 1 else ''}"


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


def _range_text(chosen: Prediction, slower: Prediction) -> str:
    """As much as its requests say of other traffic, and of a slower engine."""
    least, most = chosen.first_token_p99_range
    return (
        f"The p99 of {chosen.requests:,} other such requests would be {_ms(least)} to {_ms(most)};"
        f" with steps that take {SLOWER - 1:.0%} longer it would be {_ms(slower.first_token_p99)}."
    )


def _goal_text(goal: Goal) -> str:
    return f"first token within {goal.first_token_seconds:g} s for {goal.share:.3%}".replace(
        ".000%", "%"
    )


def _median(values: Sequence[float]) -> float:
    if not values:
        return 0.0
    from statistics import median  # takes as long to import as a small simulation

    return median(values)


def _ms(seconds: float) -> str:
    amount = seconds * 1000
    return f"{amount:,.0f} ms" if amount >= 10 else f"{amount:.3g} ms"


def _cost(fixed: float, per_byte: float) -> str:
    return _ms(fixed) + (f" + {_ms(per_byte * 2**20)} a MiB" if per_byte else "")


def _step(costs: Costs) -> str:
    if not costs.steps:
        step, each = costs.step_seconds, costs.step_seconds_per_request
        return f"step {_ms(step)} + {_ms(each)} a request"
    (few, soon), (many, late) = costs.steps[0], costs.steps[-1]
    each = costs.step_seconds_per_adapter
    others = f", {_ms(each)} for each further adapter" if each else ""
    return f"step {_ms(soon)} for {few:.3g} to {_ms(late)} for {many:.3g} requests{others}"
