"""Grammars: what takes too long to compile is refused by its size, and new ones are counted."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from engine.errors import GrammarLimit, GrammarTooComplex, GrammarUnsatisfiable
from engine.gateway.grammar_bounds import GrammarGate, expanded_size
from engine.types import GrammarLimits
from tests.support.counted_work import counted_work

TREE = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#"}}},
}
USUAL: list[dict[str, Any]] = [
    {"regex": r"\d{4}-\d{2}-\d{2}T(\d{2}:){2}\d{2}"},
    {"regex": "[a-z]{1,100}"},
    {"regex": "(" + "|".join(f"word{n}" for n in range(3000)) + ")+"},
    {"choice": [f"label {n}" for n in range(500)]},
    {"json": {"enum": [f"value {n}" for n in range(2000)]}},
    {"json": {"type": "string", "maxLength": 500}},
    {"json": '{"type": "array", "items": {"type": "string"}, "maxItems": 100}'},
    {"json": TREE},
    {"json": {"$defs": {"a": {"anyOf": [{"type": "null"}, {"items": {"$ref": "#/$defs/a"}}]}}}},
    {"json_object": True},
    {"grammar": 'root ::= "a" | "b" root'},
    {"json": "not json"},
]
HARMFUL: list[dict[str, Any]] = [
    {"regex": "(a{1,900}){1,900}"},
    {"regex": "[a-z]{5000}"},
    {"regex": "((a{9}b{9}){9}[}]{9}){9}" + r"\){9}" * 300},
    {"grammar": "root ::= [a-z]{1,99999}"},
    {"choice": ["x"] * 50_000},
    {"choice": ["x" * 100_000]},
    {"regex": "|".join(f"word{n}" for n in range(100_000))},
    {"json": {"enum": [f"value {n}" for n in range(50_000)]}},
    {"json": {"type": "string", "maxLength": 10_000}},
    {"json": '{"type": "string", "pattern": "^[a-z]{1,9999}$"}'},
    {"json": {"maxItems": 90, "items": {"maxItems": 90, "items": {"maxLength": 9}}}},
    {"json": {"$ref": "#"}},
    {"json": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}},
    {"json": {"allOf": [{"anyOf": [{"$ref": "#"}]}], "x": {"$ref": "#"}}},
    {"json": '{"$defs": {}, "items": ' * 200 + "{}" + "}" * 200},
    {"structural_tag": '{"format": ' * 200 + "{}" + "}" * 200},
]


class Stage:
    def __init__(self, **limits: int) -> None:
        self.caller, self.now = "acme", 0.0
        self.empty: list[Any] = []
        self.parsed = 0
        self.gate = GrammarGate(
            GrammarLimits(**limits), lambda: self.caller, self._is_empty, lambda: self.now
        )

    def admit(self, **wanted: Any) -> None:
        asyncio.run(self.gate.admit(SimpleNamespace(**wanted)))

    def _is_empty(self, wanted: Mapping[str, Any]) -> bool:
        self.parsed += 1
        return wanted["grammar"] in self.empty


@pytest.mark.parametrize("wanted", USUAL)
def test_the_usual_is_admitted(wanted: dict[str, Any]) -> None:
    Stage().admit(**wanted)


@pytest.mark.parametrize("wanted", HARMFUL)
def test_what_takes_too_long_is_refused(wanted: dict[str, Any]) -> None:
    stage = Stage()
    for _ in range(2):  # a refused one is not known afterwards
        with pytest.raises(GrammarTooComplex):
            stage.admit(**wanted)


def test_the_size_is_that_with_repetitions_written_out() -> None:
    assert expanded_size("a{900}") == 900
    assert expanded_size("(ab{1,10}){1,5}") == 55
    assert expanded_size(r"[a-z\]]{3}\{{4}") == 7
    assert expanded_size("a" * 9999) == 0


def test_new_grammars_are_counted_for_each_caller() -> None:
    stage = Stage(new_per_minute=3)
    for n in range(3):
        stage.admit(regex=f"a{n}")
    with pytest.raises(GrammarLimit) as refused:
        stage.admit(regex="another")
    assert refused.value.retry_after_seconds == 60
    stage.admit(regex="a1")  # known: the engine has it
    stage.caller = "bystander"
    stage.admit(regex="another")
    stage.caller, stage.now = "acme", 60.0
    stage.admit(regex="one more")


async def test_the_prompts_of_one_request_begin_one_grammar() -> None:
    stage = Stage(new_per_minute=1)
    wanted = SimpleNamespace(grammar='root ::= "a"')
    await asyncio.gather(*(stage.gate.admit(wanted) for _ in range(20)))
    assert stage.parsed == 1
    with pytest.raises(GrammarLimit):
        await stage.gate.admit(SimpleNamespace(grammar='root ::= "b"'))


async def test_a_client_that_leaves_keeps_nobody_from_the_same_grammar() -> None:
    stage = Stage()
    wanted = SimpleNamespace(grammar='root ::= "a"')
    left, stays = (asyncio.create_task(stage.gate.admit(wanted)) for _ in range(2))
    await asyncio.sleep(0)
    left.cancel()
    await stays
    assert left.cancelled()


@pytest.mark.parametrize(
    "schema",
    [
        {"anyOf": [{"$ref": f"#/anyOf/{n + 1}"} for n in range(3000)]},
        {"$defs": {str(n): {"anyOf": [{"$ref": f"#/$defs/{n + 1}"}] * 2} for n in range(50)}},
        "[" * 900 + "]" * 900,
    ],
)
def test_it_is_checked_with_little_work(schema: Any) -> None:
    """In proportion to its size: followed along each reference, the second would never end."""
    with counted_work(at_most=500_000), suppress(GrammarTooComplex):
        Stage(max_bytes=2**22).admit(json=schema)


def test_one_that_accepts_nothing_is_refused_each_time() -> None:
    stage = Stage()
    stage.empty = ["root ::= root"]
    for _ in range(2):
        with pytest.raises(GrammarUnsatisfiable):
            stage.admit(grammar="root ::= root")
    stage.admit(grammar='root ::= "a"')
