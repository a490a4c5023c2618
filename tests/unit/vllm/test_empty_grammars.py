"""Empty grammars: what accepts no text is found by its rules, and nothing else is refused."""

import json
from typing import Any

import pytest
import xgrammar

from engine.vllm.grammars.empty_grammars import accepts_nothing

LIST = {
    "type": "object",
    "properties": {"next": {"$ref": "#/$defs/list"}},
    "required": ["next"],
}
ENDING_LIST = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "null"}]}},
    "required": ["next"],
}


def _tag(content: dict[str, Any]) -> str:
    tag = {"type": "tag", "begin": "<a>", "content": content, "end": "</a>"}
    return json.dumps({"type": "structural_tag", "format": tag})


EMPTY: list[dict[str, Any]] = [
    {"grammar": "root ::= root"},
    {"grammar": "start: start"},
    {"grammar": 'root ::= "a" b\nb ::= b'},
    {"grammar": 'root ::= a | b\na ::= a "x"\nb ::= "y" b'},
    {"grammar": "root ::= [a-z] root"},
    {"grammar": 'root ::= ("a" | "b")+ (root){1,3}'},
    {"grammar": "root ::= [^\\x00-\\U0010ffff]"},
    {"regex": r"[^\s\S]"},
    {"regex": r"x[^\w\W]+"},
    {"json": {"$defs": {"list": LIST}, "$ref": "#/$defs/list"}},
    {"json": json.dumps({"$defs": {"list": LIST}, "$ref": "#/$defs/list"})},
    {"json": {"type": "string", "pattern": r"^[^\s\S]$"}},
    {"structural_tag": _tag({"type": "grammar", "grammar": "root ::= root"})},
]
ACCEPTING: list[dict[str, Any]] = [
    {"grammar": 'root ::= ""'},
    {"grammar": 'root ::= root | "a"'},
    {"grammar": 'root ::= (root)* "x"'},
    {"grammar": 'root ::= root? "x"'},
    {"grammar": 'root ::= (root "b"){0,3}'},
    {"grammar": 'root ::= "a" b | "c"\nb ::= b'},
    {"grammar": 'root ::= "a" (= "b")'},
    {"grammar": 'root ::= "a" b\nb ::= c (d | "e")\nc ::= [0-9]+\nd ::= d'},
    {"grammar": 'root ::= [^\\x00-\\U0010ffff]* "a"'},
    {"grammar": r'root ::= "::=" "(\"" "|" [\]|"] ")" [^\]\-]'},
    {"grammar": 'root ::= x-y.z\nx-y.z ::= "q"'},
    {"grammar": 'start: "a" start?'},
    {"regex": ""},
    {"regex": r"[^\w\W]*a"},
    {"regex": r"[^\w\W]+a|b"},
    {"regex": '[^"\\\\]+'},
    {"choice": [""]},
    {"json_object": True},
    {"json": {"type": "array", "items": {"$ref": "#"}}},
    {"json": {"$defs": {"list": ENDING_LIST}, "$ref": "#/$defs/list"}},
    {"structural_tag": _tag({"type": "any_text"})},
]
INVALID: list[dict[str, Any]] = [
    {"grammar": "root ::= ("},
    {"regex": "[^"},
    {"json": 'not json "$ref"'},
    {"json": {"$ref": "#/nowhere"}},
    {"structural_tag": "{"},
    {"structural_tag": "[]"},
]


@pytest.mark.parametrize("wanted", EMPTY)
def test_a_grammar_that_accepts_no_text_is_found(wanted: dict[str, Any]) -> None:
    assert accepts_nothing(wanted)


@pytest.mark.parametrize("wanted", ACCEPTING)
def test_one_that_accepts_a_text_is_not(wanted: dict[str, Any]) -> None:
    assert not accepts_nothing(wanted)


@pytest.mark.parametrize("wanted", INVALID)
def test_what_is_no_grammar_is_left_to_vllm(wanted: dict[str, Any]) -> None:
    assert not accepts_nothing(wanted)


def test_an_xgrammar_that_reads_no_lark_leaves_it_to_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(xgrammar.Grammar, "from_lark")
    assert not accepts_nothing({"grammar": "start: start"})
