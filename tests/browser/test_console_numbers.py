"""What the console counts and draws, in the browser that runs it."""

from typing import Any

from playwright.sync_api import Page

from adaptry.terminal.output import size
from tests.browser.scripted_server import run


def decision(number: int, second: float, **more: Any) -> dict[str, Any]:
    at = f"2026-11-25T14:00:{second:06.3f}Z"
    empty = {"outcome": None, "reason": None, "tier": None, "seconds": None}
    return {"id": number, "at": at, "adapter": "upper", "kind": "looked_up", **empty, **more}


def test_decisions_are_stored_once_in_order_and_expire(page: Page) -> None:
    given = [decision(2, 2), decision(1, 1), decision(2, 2), decision(3, 50)]
    code = """
      const seen = new m.DecisionWindow();
      const added = given.map((each) => seen.add(each));
      const ids = seen.all.map(({ id }) => id);
      seen.prune(Date.parse("2026-11-25T14:00:10Z") + m.WINDOW_MS);
      return [added, ids, seen.all.map(({ id }) => id)];
    """
    assert run(page, "decisionWindow", code, given) == [[True, True, False, True], [1, 2, 3], [3]]


def test_the_newest_decisions_are_kept_however_old(page: Page) -> None:
    code = """
      const seen = new m.DecisionWindow();
      for (let id = 1; id <= 300; id += 1) seen.add({ id, at: "2026-11-25T14:00:00Z" });
      seen.prune(Date.parse("2026-11-25T14:00:01Z") + 12 * m.WINDOW_MS);
      return [seen.all.length, seen.newest.length, seen.newest[0].id];
    """
    assert run(page, "decisionWindow", code) == [0, 200, 300]


def test_an_old_decision_that_comes_again_is_kept_once(page: Page) -> None:
    code = """
      const seen = new m.DecisionWindow();
      for (const again of [1, 2]) {
        for (const id of [1, 2]) seen.add({ id, at: "2026-11-25T14:00:00Z" });
        seen.prune(Date.parse("2026-11-25T14:00:01Z") + m.WINDOW_MS);
      }
      return seen.newest.map(({ id }) => id);
    """
    assert run(page, "decisionWindow", code) == [2, 1]


def test_ratios_and_buckets_equal_the_hand_count(page: Page) -> None:
    outcomes = ["gpu_hit", "gpu_hit", "gpu_hit", "host_hit", "miss"]
    given = [decision(n, 10.0 + 2 * n, outcome=outcome) for n, outcome in enumerate(outcomes)]
    given.append(decision(9, 11, kind="evicted", tier="gpu"))
    code = """
      const seen = new m.DecisionWindow();
      for (const each of given) seen.add(each);
      const counts = m.lookups(seen.all);
      const now = Date.parse("2026-11-25T14:00:19.5Z");
      const totals = m.buckets(seen.all, now).map(({ total }) => total);
      return [counts, m.ratios(counts), totals.slice(-3), totals.length, m.ratios(m.lookups([]))];
    """
    counts, ratios, totals, number, none = run(page, "decisionWindow", code, given)
    assert counts == {"gpu_hit": 3, "host_hit": 1, "miss": 1, "total": 5}
    assert ratios == {"gpu": 0.6, "memory": 0.8}
    assert totals == [0, 3, 2]
    assert number == 60
    assert none == {"gpu": None, "memory": None}


def test_who_makes_room_again_and_again_thrashes(page: Page) -> None:
    def evicted(number: int, adapter: str, tier: str, reason: str = "capacity") -> dict[str, Any]:
        more = {"kind": "evicted", "adapter": adapter, "tier": tier, "reason": reason}
        return decision(number, number, **more)

    given = [
        *(evicted(n, "upper", "gpu") for n in range(4)),
        *(evicted(n, "rot13", "host") for n in range(10, 13)),
        *(evicted(n, "rare", "gpu") for n in range(20, 22)),
        *(evicted(n, "asked-out", "gpu", "requested") for n in range(30, 36)),
    ]
    found = run(page, "decisionWindow", "return m.thrashing(given);", given)
    assert found == [
        {"adapter": "rot13", "gpu": 0, "host": 3},
        {"adapter": "upper", "gpu": 4, "host": 0},
    ]


def test_scales_and_ticks(page: Page) -> None:
    code = """
      const log = m.logarithmic(0.001, 1, 100, 0);
      return {
        linear: [0, 5, 10].map(m.linear(0, 10, 100, 0)),
        log: [0.001, 1, 0].map(log).map(Math.round),
        whole: [0, 1, 4, 7, 95].map(m.wholeTicks),
        powers: m.powerTicks([0.002, 0.3]),
        segments: m.segments([{ y: 1 }, { y: null }, { y: 2 }, { y: 3 }]).map((s) => s.length),
      };
    """
    assert run(page, "scales", code) == {
        "linear": [100, 50, 0],
        "log": [100, 0, 100],
        "whole": [[0, 1], [0, 1], [0, 1, 2, 3, 4], [0, 2, 4, 6, 8], [0, 50, 100]],
        "powers": [0.001, 0.01, 0.1, 1],
        "segments": [1, 2],
    }


def test_numbers_have_units(page: Page) -> None:
    code = """
      return [[0, 1023, 1536, 150e6].map(m.bytes), [0.0002, 0.0123, 0.5, 2, 61].map(m.seconds)];
    """
    assert run(page, "format", code) == [
        ["0 B", "1023 B", "1.5 KiB", "143 MiB"],
        ["200 µs", "12.3 ms", "500 ms", "2.00 s", "61 s"],
    ]


def test_sizes_are_those_of_the_command_line(page: Page) -> None:
    sizes = [0, 1, 1023, 1024, 1280, 1331, 102_300, 102_400, 159_744, 185_344, 2**20, 150_300_000]
    sizes += [int(2**30 * part) for part in (0.9999, 1, 1.25, 99.95, 100.5, 1023.9)] + [2**60]
    shown = run(page, "format", f"return {sizes}.map(m.bytes);")
    assert shown == [size(each) for each in sizes]


def test_a_name_cannot_climb_out_of_its_path(page: Page) -> None:
    code = """
      return given.map((name) => {
        try { return m.part(name); } catch (error) { return error.code; }
      });
    """
    refused = "invalid_reference"
    assert run(page, "api", code, ["..", ".", "", "a/b", "x.y:3"]) == [
        *(refused, refused, refused, "a%2Fb", "x.y%3A3")
    ]


def test_a_slot_of_another_tenant_is_not_free_and_has_no_name(page: Page) -> None:
    given = {"slots": 4, "gpu": [{"reference": "acme~a:1", "slot": 2}], "hidden": {"gpu": 2}}
    shown = run(page, "cacheCells", "return m.bySlot(given);", given)
    assert [each.get("blank") for each in shown] == ["another's", "another's", None, "free"]
    assert shown[2]["resident"]["reference"] == "acme~a:1"
    assert len({each["id"] for each in shown}) == 4


def test_a_slot_of_an_engine_that_is_down_is_not_free(page: Page) -> None:
    replicas = [
        {"name": "one", "slots": 2, "engine_up": True},
        {"name": "two", "slots": 2, "engine_up": False},
    ]
    held = {"reference": "a:1", "slot": 1, "replica": "one"}
    given = {"slots": 4, "gpu": [held], "hidden": {"gpu": 1}, "replicas": replicas}
    code = "return [m.bySlot(given), m.down(given), m.down({})];"
    shown, down, none = run(page, "cacheCells", code, given)
    blanks = ["another's", None, "engine down", "engine down"]
    assert [each.get("blank") for each in shown] == blanks
    assert len({each["id"] for each in shown}) == 4
    assert down == "The engine of two is down: nothing is in memory there."
    assert none is None


def test_a_single_engine_that_is_down_has_no_room(page: Page) -> None:
    states = {"free": 0, "idle": 0, "leased": 0, "pinned": 0, "down": 2}
    given = {"slots": 2, "host_capacity": 3, "gpu": [], "host": [], "slots_by_state": states}
    given |= {"hidden": {"gpu": 0, "host": 0}, "replicas": [], "engine_up": False}
    code = "return [m.bySlot(given), m.inHost(given), m.slotsInUse(given), m.down(given)];"
    slots, places, summary, down = run(page, "cacheCells", code, given)
    assert [each["blank"] for each in slots] == ["engine down"] * 2
    assert [each["blank"] for each in places] == ["engine down"] * 3
    assert summary == "2: 0 leased · 0 pinned · 0 idle · 0 free · 2 engine down"
    assert down.startswith("The engine is down or asleep")
    given |= {"engine_up": True, "slots_by_state": states | {"free": 2, "down": 0}}
    slots, places, summary, down = run(page, "cacheCells", code, given)
    assert {each["blank"] for each in (*slots, *places)} == {"free"}
    assert summary == "2: 0 leased · 0 pinned · 0 idle · 2 free"
    assert down is None


def test_metadata_that_is_not_edited_stays_what_it_was(page: Page) -> None:
    texts = {"number": "8", "flag": "true", "lines": "a\nb", "blanks": " a ", "quoted": '"a"'}
    names = {"n=m": "x=y", '"k"': "k", "a b": "c = d", "constructor": ""}
    given = {**texts, **names, "rank": 8, "list": [1, "1"], "none": None}
    assert run(page, "metadata", "return m.metadataIn(m.linesOf(given));", given) == given
    written = run(page, "metadata", 'return m.linesOf({ run: "7b", steps: 8, loss: [1] });')
    assert written == "run = 7b\nsteps = 8\nloss = [1]"
