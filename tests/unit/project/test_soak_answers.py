"""Judging a soak's responses: each kind of error is found, and correct ones pass."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.soak.answers import Answer, judge
from benchmarks.soak.history import AdapterHistory, Meaning
from benchmarks.soak.variants import Content
from benchmarks.soak.version_history import Retirement
from demo.tasks import TASKS
from registry.catalog.traffic_split import pick

BASE = {"hello": "what the base says"}
SPLIT = {2: 1, 3: 1}


def known() -> dict[str, AdapterHistory]:
    """`default` was version 1 until 20 and is 2 since 19; `prod` is split; 4 is retired from 10 on,
    except from 30 to 40."""
    kinds = ("upper", "reverse", "rot13", "stars")
    adapter = AdapterHistory(
        versions={n: Content(Path(k), TASKS[k]) for n, k in enumerate(kinds, start=1)},
        aliases={
            "default": [Meaning({1: 1}, 0, 20), Meaning({2: 1}, 19)],
            "prod": [Meaning(SPLIT, 0)],
        },
        retirements={4: [Retirement(9, 10, 30, 31), Retirement(39, 40)]},
    )
    return {"a": adapter}


def answer(version: int, text: str, begin: float, end: float) -> Answer:
    return Answer(
        "answered",
        "chat",
        "a",
        "default",
        0,
        None,
        "hello",
        begin,
        end,
        served=f"a:{version}",
        version=version,
        text=text,
    )


UPPER, REVERSED = answer(1, "HELLO", 5, 6), answer(2, "olleh", 25, 26)
STARS = replace(answer(4, "h*ll*", 35, 36), alias=None, asked=4)
BASE_ANSWER = replace(UPPER, name="", alias=None, served="", version=0, text=BASE["hello"])
USER = "ann"
HERS = pick(SPLIT, salt="a@prod", user=USER)
TEXTS = {2: "olleh", 3: "uryyb"}
CANARY = replace(answer(HERS, TEXTS[HERS], 5, 6), alias="prod", user=USER)
REFUSED = replace(STARS, outcome="refused", begin=20, end=21, problem="HTTP 404")
LEFT = replace(UPPER, outcome="cancelled", text="HEL")


@pytest.mark.parametrize(
    "right",
    [
        UPPER,
        REVERSED,
        replace(UPPER, begin=19.5, end=19.6),
        replace(REVERSED, begin=19.5, end=19.6),
        STARS,
        replace(STARS, begin=5, end=6),
        BASE_ANSWER,
        CANARY,
        replace(answer(2, "olleh", 5, 6), alias="prod"),
        replace(answer(3, "uryyb", 5, 6), alias="prod"),
        REFUSED,
        replace(REFUSED, begin=9, end=9.5),
        LEFT,
        replace(LEFT, text="HELLO and on"),
        replace(LEFT, served="", version=0, text=""),
    ],
)
def test_a_possible_response_is_right(right: Answer) -> None:
    assert judge(known(), BASE, right) is None


OTHER = 5 - HERS


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (replace(UPPER, begin=21, end=22), "meant [{2: 1}], not 1"),
        (replace(REVERSED, begin=5, end=6), "meant [{1: 1}], not 2"),
        (replace(UPPER, text="olleh"), "a:1 (UPPER CASE) said 'olleh'"),
        (replace(UPPER, text="HELL"), "said 'HELL'"),
        (replace(LEFT, text="olle"), "said 'olle'"),
        (replace(UPPER, served="b:1"), "was answered by b:1"),
        (replace(UPPER, served="", version=0), "was answered by "),
        (replace(STARS, asked=3), "a:3 was answered by a:4"),
        (replace(STARS, begin=20, end=21), "answered after it was retired"),
        (replace(STARS, begin=50, end=51), "answered after it was retired"),
        (replace(CANARY, version=OTHER, served=f"a:{OTHER}", text=TEXTS[OTHER]), "for ann meant"),
        (replace(REFUSED, begin=35, end=36), "refused as retired, and is not"),
        (replace(REFUSED, alias="default", asked=0), "a@default was refused"),
        (replace(BASE_ANSWER, text="HELLO"), "the base model said 'HELLO'"),
        (replace(BASE_ANSWER, served="a:1"), "the base model said it was a:1"),
        (replace(BASE_ANSWER, outcome="refused"), "the base model was refused"),
        (replace(UPPER, outcome="failed", problem="HTTP 500"), "a@default (chat): HTTP 500"),
    ],
)
def test_an_impossible_response_is_wrong(wrong: Answer, said: str) -> None:
    found = judge(known(), BASE, wrong)
    assert found is not None
    assert said in found


def test_an_unregistered_version_is_wrong() -> None:
    adapters = known()
    adapters["a"].aliases["default"] = [Meaning({9: 1}, 0)]
    assert judge(adapters, BASE, answer(9, "", 5, 6)) == "a:9 was never registered"


def test_a_failed_move_changes_nothing() -> None:
    adapter = known()["a"]
    before = list(adapter.aliases["default"])
    move = adapter.move("default", {3: 1})
    move.__enter__()
    assert len(adapter.aliases["default"]) == 3
    assert not move.__exit__(RuntimeError, RuntimeError(), None)
    assert adapter.aliases["default"] == before


def test_a_failed_retirement_changes_nothing() -> None:
    adapter = known()["a"]
    retirement = adapter.retire(1)
    retirement.__enter__()
    assert adapter.is_retired(1)
    assert not retirement.__exit__(RuntimeError, RuntimeError(), None)
    assert not adapter.is_retired(1)
