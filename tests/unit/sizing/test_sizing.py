"""`adaptry size`: what it predicts, what it chooses and marks, its costs, and bad input."""

import json
import random
import re
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from adaptry.cli import main
from adaptry.sizing.costs import (
    ASSUMED,
    MEASURED,
    MOST_VALUES,
    RECORDED,
    KnownCosts,
    load_costs,
)
from adaptry.sizing.inputs import recorded_of
from adaptry.sizing.plot import draw
from adaptry.sizing.prediction import Setting, predict
from adaptry.sizing.report import Report
from adaptry.sizing.sweep import Choices, Goal, Sizer, find_knee
from adaptry.sizing.workload import Workload, rank_classes, workload_of, workload_of_rates
from adaptry.terminal.errors import CommandError
from adaptry.traces.trace import Trace, TracedLoad, TracedRequest, TracedServer
from engine.simulation.replay import Arrival
from engine.simulation.shared_engine import BASE_MODEL, Costs
from engine.types import EvictionPolicy, VersionId

COSTS = Costs(0.01, 0.0001, 0.02, 0.1, 0.005)
GOAL = Goal(0.5, 0.99)
RATES = ("size", "--adapters", "12", "--rate", "5", "--seconds", "60", "--tokens", "8")


def one_after_the_other(adapters: Sequence[int]) -> Workload:
    """So slowly that each has ended before the next comes."""
    arrivals = [Arrival(n * 10.0, VersionId(each), 4) for n, each in enumerate(adapters)]
    return Workload(arrivals, len(set(adapters)))


def lru_hits(adapters: Sequence[int], places: int) -> int:
    held: list[int] = []
    hits = 0
    for each in adapters:
        if each in held:
            hits += 1
            held.remove(each)
        held.append(each)
        del held[:-places]
    return hits


def test_requests_for_the_base_model_take_time_and_no_slot_and_do_not_count() -> None:
    alone = one_after_the_other([1, 2, 1, 2])
    beside = [Arrival(each.at - 0.001, BASE_MODEL, 50, 200) for each in alone.arrivals[1:]]
    both = Workload(sorted([*alone.arrivals, *beside], key=lambda each: each.at), 2)
    costs = replace(COSTS, prefill_seconds_per_token=0.001)
    for replicas in (1, 2):
        setting = Setting(2, 2, replicas=replicas)
        quiet, busy = (
            predict(each, costs, setting, first_token_seconds=0.5) for each in (alone, both)
        )
        assert (busy.requests, busy.loads) == (quiet.requests, quiet.loads)
        assert busy.slot_hit_ratio == quiet.slot_hit_ratio
    one = Setting(2, 2)
    waits = [predict(x, costs, one, first_token_seconds=0.5).first_token_p50 for x in (alone, both)]
    assert waits[1] > waits[0] + 0.1, "the engine was busy with a prompt of the base model"
    assert both.for_adapters == 4


def test_small_ranks_have_more_slots_by_engines_of_their_own() -> None:
    """Forty adapters of rank 8 and two of 64, more of them at a time than there are slots."""
    workload = workload_of_rates(
        adapters=42, zipf=0.3, rate=40, seconds=20, tokens=40, prompt_tokens=0
    )
    ranks = {VersionId(n): 64 if n <= 2 else 8 for n in range(1, 43)}
    workload = replace(workload, ranks=ranks, sizes={v: r * 2**20 for v, r in ranks.items()})
    sizer = Sizer(
        workload, replace(COSTS, prefill_seconds=0.001), Goal(0.2, 0.99), Setting(4, 42), 0
    )
    split = sizer.split_by_rank(Setting(4, 42), 64)
    assert split is not None
    assert (split.rank, split.small.setting.slots, split.large.setting.slots) == (8, 32, 4)
    assert split.small.requests + split.large.requests == split.mixed.requests
    assert split.mixed.setting.replicas == 2
    assert split.share_within > split.mixed.share_within + 0.1
    same = replace(workload, ranks=dict.fromkeys(ranks, 8))
    assert Sizer(same, COSTS, GOAL, Setting(4, 42), 0).split_by_rank(Setting(4, 42), 8) is None


@pytest.mark.parametrize(("small_rank", "max_rank"), [(8, 8), (8, 1), (0, 64)])
def test_slots_that_are_no_larger_than_small_ranks_are_not_split(
    small_rank: int, max_rank: int
) -> None:
    ranks = {VersionId(1): 64, VersionId(2): small_rank}
    workload = replace(one_after_the_other([1, 2, 1, 2]), ranks=ranks)
    setting = Setting(2, 2)
    assert Sizer(workload, COSTS, GOAL, setting, 0).split_by_rank(setting, max_rank) is None


def test_engines_for_small_and_for_large_ranks_share_the_requests_for_the_base_model() -> None:
    """Each request for an adapter comes just after one for the base model."""
    costs = replace(COSTS, prefill_seconds_per_token=0.001)
    alone = one_after_the_other([1, 2] * 4)
    beside = [Arrival(each.at, BASE_MODEL, 4, 1000) for each in alone.arrivals]
    pairs = zip(beside, alone.arrivals, strict=True)
    arrivals = [each for pair in pairs for each in pair]
    workload = replace(alone, arrivals=arrivals, ranks={VersionId(1): 8, VersionId(2): 64})
    split = Sizer(workload, costs, GOAL, Setting(2, 2), 0).split_by_rank(Setting(2, 2), 64)
    assert split is not None
    for part in (split.small, split.large):
        assert part.first_token_p50 > 1, "its prompt is computed first"


def test_a_trace_without_requests_for_adapters_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path := tmp_path / "base.csv").write_text("time,adapter,tokens\n1,,4\n")
    assert main(["size", str(path)]) == 1
    assert "no requests for adapters" in capsys.readouterr().err
    path.write_text("time,adapter,tokens\n1,a,4\n2,,4\n3,,4\n")
    assert main(["size", str(path), "--requests", "2"]) == 1
    assert "last 2 requests" in capsys.readouterr().err


def test_hits_and_loads_of_spaced_requests_are_those_of_the_two_tiers() -> None:
    chance = random.Random(3)
    adapters = [min(int(chance.expovariate(0.3)) + 1, 20) for _ in range(400)]
    workload = one_after_the_other(adapters)
    setting = Setting(3, 6, eviction_policy=EvictionPolicy.LRU)
    found = predict(workload, COSTS, setting, first_token_seconds=0.5)
    assert round(found.slot_hit_ratio * 400) == lru_hits(adapters, 3)
    assert round(found.memory_hit_ratio * 400) == lru_hits(adapters, 6)
    assert found.loads == 400 - lru_hits(adapters, 6)
    assert (found.refused, found.requests) == (0, 400)


def test_a_cold_first_token_has_the_load_the_copy_the_prompt_and_a_step() -> None:
    costs = replace(COSTS, prefill_seconds_per_token=0.001, load_seconds_per_byte=1e-6)
    workload = Workload([Arrival(0.0, VersionId(1), 4, 30)], 1, {VersionId(1): 50_000})
    found = predict(workload, costs, Setting(1, 1), first_token_seconds=0.5)
    expected = (0.1 + 0.05) + 0.005 + (0.02 + 0.03) + 0.0101
    assert found.first_token_p99 == pytest.approx(expected)
    assert found.wait_p99 == pytest.approx(0.155)


def test_replicas_hold_each_adapter_once_and_share_the_load() -> None:
    adapters = [1 + n % 8 for n in range(200)]
    workload = one_after_the_other(adapters)
    one = predict(
        workload, COSTS, Setting(6, 6, eviction_policy=EvictionPolicy.LRU), first_token_seconds=0.5
    )
    two = predict(workload, COSTS, Setting(6, 6, replicas=2), first_token_seconds=0.5)
    assert one.loads == 200
    assert two.loads == 8


def workload() -> Workload:
    return workload_of_rates(
        adapters=40,
        zipf=1.0,
        rate=12,
        seconds=40,
        tokens=16,
        prompt_tokens=0,
        size_bytes=2**20,
        rank=16,
    )


def test_the_smallest_setting_that_reaches_the_goal_is_chosen() -> None:
    sizer = Sizer(workload(), COSTS, GOAL, Setting(1, 1), 0.0)
    sizing = sizer.size(Choices())
    assert sizing.is_met
    assert sizing.prediction.share_within >= 0.99
    by_slots, by_places, by_replicas = sizing.sweeps
    assert [each.over for each in sizing.sweeps] == ["slots", "host_places", "replicas"]
    for sweep in (by_slots, by_places):
        less = sweep.predictions[: sweep.chosen]
        assert all(each.share_within < 0.99 for each in less)
    assert by_slots.values[0] == 1
    assert by_slots.values[-1] == 40
    assert by_slots.predictions[0].share_within < 0.5
    assert by_replicas.values == [1, 2]


def test_what_no_engine_can_do_is_said_and_not_chosen_silently() -> None:
    sizer = Sizer(workload(), replace(COSTS, prefill_seconds=2.0), GOAL, Setting(1, 1), 0.0)
    sizing = sizer.size(Choices(slots=(2, 8), host_places=(40,), replicas=(1,)))
    assert not sizing.is_met


def test_the_knee_is_where_more_begins_to_bring_little() -> None:
    assert find_knee([1, 2, 4, 8, 16], [0.0, 0.4, 0.8, 0.85, 0.9]) == 2
    assert find_knee([1, 2, 4], [0.5, 0.5, 0.5]) == 0
    assert find_knee([3], [0.5]) == 0


def trace() -> Trace:
    """Two adapters of ranks 8 and 32, recorded by a server of 2 slots."""
    server = TracedServer("here", "base", 2, 4, None, 32, 2, 2.0, "lru")
    requests = [
        TracedRequest(n * 5.0, f"a{n % 2}:1", 4, 10, source="gpu_hit" if n > 1 else "miss")
        for n in range(20)
    ]
    requests.append(TracedRequest(101.0, "a1:1", 0, outcome="cancelled"))
    loads = [
        TracedLoad(1.0, "a0:1", "disk_to_host", 0.2, 8_000, 8),
        TracedLoad(1.0, "a1:1", "disk_to_host", 0.4, 32_000, 32),
        TracedLoad(1.0, "a0:1", "host_to_gpu", 0.01, 8_000, 8),
        TracedLoad(1.0, "a1:1", "host_to_gpu", 0.03, 32_000, 32),
    ]
    return Trace(requests, loads, server)


def test_a_trace_gives_arrivals_ranks_and_what_its_loads_took() -> None:
    found = workload_of(trace(), 1000)
    assert (found.adapters, len(found.arrivals), found.arrivals[3].at) == (2, 21, 15.0)
    assert found.arrivals[-1].tokens == 4, "a cancelled request is taken for a typical one"
    assert (found.slot_bytes(), found.slot_bytes(64)) == (32_000, 64_000)
    assert [(each.rank, each.adapters) for each in rank_classes(found)] == [(32, 1), (8, 1)]
    assert len(workload_of(trace(), 5).arrivals) == 5
    known = KnownCosts().with_loads_of(trace())
    assert known.costs.load_seconds == pytest.approx(0.3)
    assert known.costs.activate_seconds == pytest.approx(0.02)
    assert known.sources["load_seconds"] == RECORDED
    assert known.sources["step_seconds"] == ASSUMED


def test_loads_of_different_sizes_cost_by_the_byte() -> None:
    loads = [
        TracedLoad(1.0, "a:1", "disk_to_host", 0.01 + size * 1e-9, size, 8)
        for size in range(10_000_000, 90_000_000, 5_000_000)
    ]
    costs = KnownCosts().with_loads_of(Trace(loads=loads)).costs
    assert costs.load_seconds == pytest.approx(0.01)
    assert costs.load_seconds_per_byte == pytest.approx(1e-9)


def test_loads_without_a_size_cost_the_same() -> None:
    loads = [TracedLoad(1.0, "a:1", "disk_to_host", 0.5, 0, 8)] * 10
    costs = KnownCosts().with_loads_of(Trace(loads=loads)).costs
    assert (costs.load_seconds, costs.load_seconds_per_byte) == (0.5, 0.0)


def test_loads_and_first_tokens_are_spread_as_they_were_measured() -> None:
    loads = [TracedLoad(1.0, "a:1", "disk_to_host", n / 1000, 8, 8) for n in range(1, 202)]
    spread = KnownCosts(COSTS).with_loads_of(Trace(loads=loads))
    assert statistics.fmean(spread.costs.load_factors) == pytest.approx(1, rel=0.01)
    assert len(spread.costs.load_factors) == MOST_VALUES
    even = replace(spread.costs, load_factors=())
    slow = KnownCosts(even).with_spread("overheads", [0.0] * 9 + [3.0]).costs
    setting, goal = Setting(slots=40, host_places=40), GOAL.first_token_seconds
    found, wide, late = (
        predict(workload(), each, setting, first_token_seconds=goal)
        for each in (even, spread.costs, slow)
    )
    assert found.loads == wide.loads == late.loads
    assert wide.wait_p99 > found.wait_p99 + 0.02
    assert late.wait_p99 == found.wait_p99
    assert late.first_token_p99 == pytest.approx(found.first_token_p99 + 3, abs=0.5)


def test_loads_that_seldom_take_long_stay_in_the_mean() -> None:
    """What `load_seconds` is: else every load would be predicted as half as long."""
    seconds = [0.02] * 991 + [3.0] * 9
    loads = [TracedLoad(1.0, "a:1", "disk_to_host", each, 8, 8) for each in seconds]
    costs = KnownCosts(COSTS).with_loads_of(Trace(loads=loads)).costs
    assert len(costs.load_factors) == MOST_VALUES
    means = [costs.load_seconds * each for each in costs.load_factors]
    assert statistics.fmean(means) == pytest.approx(statistics.fmean(seconds), rel=1e-4)
    assert max(means) > 2
    assert KnownCosts(COSTS).with_spread("overheads", []).costs.overheads == ()


def test_a_slot_is_leased_for_as_long_as_the_server_takes_beside_the_engine() -> None:
    arrivals = [Arrival(0.0, VersionId(1), 4), Arrival(0.05, VersionId(2), 4)]
    held, goal = Workload(arrivals, 2), GOAL.first_token_seconds
    slow = KnownCosts(COSTS).with_spread("overheads", [0.25]).costs
    waits = [
        predict(held, each, Setting(1, 2), first_token_seconds=goal).wait_p99
        for each in (COSTS, slow)
    ]
    assert waits[1] == pytest.approx(waits[0] + 0.25)


def test_a_budget_of_bytes_that_was_simulated_is_in_the_line_that_serves() -> None:
    held, base = workload(), Setting(slots=2, host_places=4, host_bytes=3_000)
    held = replace(held, sizes={each.adapter: 1_000 for each in held.arrivals})
    sizing = Sizer(held, COSTS, GOAL, base, 0.0).size(Choices((2,), (6,), (1,)))
    report = Report(held, KnownCosts(), sizing, "MODEL", None, None)
    assert "--host-cache-bytes 3000" in report.command
    assert report.host_bytes == 3_000


def test_the_recorded_server_stands_beside_what_is_predicted_for_it() -> None:
    found = recorded_of(trace(), workload_of(trace(), 1000), COSTS, 0.5)
    assert found is not None
    assert (found.slot_hit_ratio, found.loads) == (0.9, 2)
    assert found.predicted.loads == 2
    assert found.predicted.slot_hit_ratio == pytest.approx(19 / 21)
    assert recorded_of(Trace(trace().requests), workload(), COSTS, 0.5) is None


def test_saved_costs_are_read_back_with_how_they_are_known(tmp_path: Path) -> None:
    known = KnownCosts().with_values(MEASURED, step_seconds=0.5)
    known = known.with_spread("overheads", [0.001, 0.002])
    known.save(tmp_path / "costs.json")
    assert load_costs(tmp_path / "costs.json") == known
    for content in ("", "[]", "{}", '{"costs": {}, "sources": {}}'):
        (tmp_path / "bad").write_text(content)
        with pytest.raises(CommandError, match="was not written by --save-costs"):
            load_costs(tmp_path / "bad")
    with pytest.raises(CommandError, match="can't be read"):
        load_costs(tmp_path / "none")


def test_the_plot_is_xml_with_a_chart_for_each_measure_and_dimension() -> None:
    sizing = Sizer(workload(), COSTS, GOAL, Setting(1, 1), 0.0).size(Choices(slots=(2, 8, 40)))
    root = ET.fromstring(draw(sizing))
    groups = root.findall("{http://www.w3.org/2000/svg}g")
    assert len(groups) == 4 * 3
    for group in groups:
        assert group.findall("{http://www.w3.org/2000/svg}polyline")


def test_the_command_prints_tables_and_the_line_that_follows(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--rank", "16", "--adapter-mib", "84", "--plot", str(tmp_path / "a.svg"))
    assert main([*RATES, *options, "--model", "org/model"]) == 0
    printed = capsys.readouterr().out
    assert "assumed, as of an H200 and an 8B model (see --calibrate): all of them" in printed
    assert printed.splitlines()[-1].startswith("adaptry serve org/model --max-loras ")
    assert printed.splitlines()[-1].endswith(" --max-lora-rank 16")
    for heading in ("SLOTS", "HOST PLACES", "REPLICAS", "PER GPU-GiB", "chosen", "knee"):
        assert heading in printed
    others = (
        r"\nThe p99 of \d+ other such requests would be \d+ ms to \d+ ms; with steps that take "
    )
    assert re.search(others + r"10% longer it would be \d+ ms\.\n", printed)
    assert (tmp_path / "a.svg").read_text().startswith("<svg")


def test_a_slower_engine_is_said_to_be_slower_with_the_setting_that_is_chosen() -> None:
    """As a machine may be in another hour: where requests wait, by more than its steps are."""
    costs = Costs(0.02, 0.0, 0.01, 0.05, 0.001)
    workload = workload_of_rates(
        adapters=30, zipf=1.0, rate=9.0, seconds=100, tokens=12, prompt_tokens=0
    )
    sizer = Sizer(workload, costs, Goal(0.5, 0.99), Setting(4, 16), 0.0)
    sizing = sizer.size(Choices((4,), (16,), (1,)))
    assert sizing.slower.setting == sizing.setting == Setting(4, 16)
    slow = replace(costs, step_seconds=0.022, prefill_seconds=0.011)
    again = predict(workload, slow, sizing.setting, first_token_seconds=0.5)
    assert sizing.slower == again
    assert sizing.slower.first_token_p99 > 1.1 * sizing.prediction.first_token_p99


def test_what_the_server_takes_beside_the_engine_is_said_where_it_was_measured(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    few = ("--slots", "4", "--host-places", "12", "--replicas", "1")
    KnownCosts(COSTS).with_spread("overheads", [0.002, 0.003, 0.5]).save(tmp_path / "costs.json")
    assert main([*RATES, *few, "--costs", str(tmp_path / "costs.json")]) == 0
    assert ", copy 5 ms, server 3 ms\n" in capsys.readouterr().out


def test_a_goal_out_of_reach_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--first-token", "0.01", "--slots", "2", "--host-places", "12", "--replicas", "1")
    assert main([*RATES, *options]) == 0
    printed = capsys.readouterr().out
    assert "Nothing tried reaches the goal: 0.0% of the requests would be within it." in printed


def test_json_has_all_rows_and_the_sources_of_the_costs(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert (
        main([*RATES, "--slots", "1,4", "--host-places", "4,12", "--replicas", "1", "--json"]) == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert [row["setting"]["slots"] for row in found["sweeps"][0]["rows"]] == [1, 4]
    assert found["cost_sources"]["load_seconds"] == "assumed"
    assert found["is_met"] is True
    low, high = found["prediction"]["first_token_p99_range"]
    assert 0 < low <= found["prediction"]["first_token_p99"] <= high
    policies = [each["setting"]["eviction_policy"] for each in found["policies"]]
    assert policies == list(EvictionPolicy)
    assert found["command"].startswith("adaptry serve MODEL --max-loras ")


def test_a_csv_of_others_is_sized_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = "".join(f"{n},a{n % 5},6\n" for n in range(100))
    (tmp_path / "theirs.csv").write_text(f"time,adapter,tokens\n{rows}")
    assert main(["size", str(tmp_path / "theirs.csv")]) == 0
    assert "100 requests for 5 adapters in 99 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["--adapters", "5"], 2, "--adapters and --rate together"),
        (["x.csv", "--adapters", "5", "--rate", "1"], 2, "--adapters and --rate together"),
        (["nowhere.jsonl"], 1, "nowhere.jsonl can't be read"),
        (["--adapters", "5", "--rate", "1", "--slots", "2,x"], 2, "--slots takes numbers"),
        (["--adapters", "5", "--rate", "1", "--slots", "0"], 2, "--slots takes numbers from 1"),
        (["--adapters", "5", "--rate", "0.001", "--seconds", "1"], 2, "no request comes"),
        (["--adapters", "5", "--rate", "100000", "--seconds", "1000"], 2, "5 million"),
        (["--adapters", "5", "--rate", "1", "--plot", "/none/a.svg"], 1, "no such folder"),
        (["--adapters", "5", "--rate", "1", "--costs", "/none"], 1, "/none can't be read"),
        (["--server", "http://127.0.0.1:1"], 1, "no answer"),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], exit_code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["size", *arguments]) == exit_code
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
