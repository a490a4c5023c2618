"""Grammars that can't be followed: 400 in each route's dialect, and others are served meanwhile."""

import json
from typing import Any

import pytest

pytestmark = [pytest.mark.engine]

CODE = "grammar_unsatisfiable"
LIST = {
    "type": "object",
    "properties": {"next": {"$ref": "#/$defs/list"}},
    "required": ["next"],
}
SCHEMA = {"$defs": {"list": LIST}, "$ref": "#/$defs/list"}
LOOP = {"grammar": "root ::= root"}
CHAT = {"messages": [{"role": "user", "content": "x"}], "max_tokens": 8, "temperature": 0}
PROMPT = {"prompt": "x", "max_tokens": 8, "temperature": 0}
FORMAT = {"type": "json_schema", "name": "x", "schema": SCHEMA}
EMPTY: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", {**PROMPT, "structured_outputs": LOOP}),
    ("/v1/completions", {**PROMPT, "structured_outputs": {"regex": r"[^\s\S]"}}),
    ("/v1/completions", {**PROMPT, "structured_outputs": {"json": SCHEMA}}),
    ("/v1/chat/completions", {**CHAT, "structured_outputs": LOOP}),
    (
        "/v1/chat/completions",
        {**CHAT, "response_format": {"type": "json_schema", "json_schema": FORMAT}},
    ),
    ("/v1/responses", {"input": "x", "max_output_tokens": 8, "text": {"format": FORMAT}}),
    (
        "/v1/messages",
        {**CHAT, "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
]
DEAD_END = {"grammar": 'root ::= [\\x00-\\U0010ffff] b | "d"\nb ::= b'}
DEAD_ENDS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/completions", PROMPT),
    ("/v1/completions", {**PROMPT, "n": 2, "temperature": 1}),
    ("/v1/chat/completions", CHAT),
]
ODD: list[dict[str, Any]] = [
    *({"json": each} for each in (False, True, "false")),
    {"json": {"enum": []}},
    {"json": {"anyOf": []}},
    {"json": {"not": {}}},
    {"json": {"allOf": [{"const": 1}, {"const": 2}]}},
    {"json": {"type": "integer", "minimum": 5, "maximum": 3}},
    {"json": {"type": "object", "properties": {"a": False}, "required": ["a"]}},
    {"json": {"type": "array", "prefixItems": [False]}},
    {"json": {"type": "array", "items": {"enum": [1]}, "uniqueItems": True, "minItems": 3}},
    *({"choice": choices} for choices in ([], [""], ["", "a"])),
    *({"regex": regex} for regex in ("", "^$", "(?!a)a", "a{3,1}", "()*", r"\b")),
    *({"grammar": grammar} for grammar in ('root ::= ""', "start: /[^\\s\\S]/", "?start: ")),
    {"structural_tag": json.dumps({"structures": [], "triggers": []})},
]


@pytest.mark.parametrize("model", ["upper", "tiny-text-tools"])
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(("path", "body"), EMPTY)
def test_a_grammar_that_accepts_nothing_is_refused(
    server: Any, path: str, body: dict[str, Any], stream: bool, model: str
) -> None:
    answer = server.client.post(path, json={**body, "model": model, "stream": stream})
    assert answer.status_code == 400, answer.text[:500]
    assert answer.json()["error"]["code"] == CODE, answer.text[:500]
    assert answer.json().get("type", "") == ("error" if "messages" in path else "")


@pytest.mark.parametrize(("path", "body"), DEAD_ENDS)
def test_one_that_leads_to_a_dead_end_is_the_requests_fault(
    server: Any, path: str, body: dict[str, Any]
) -> None:
    wanted = {**body, "model": "upper", "structured_outputs": DEAD_END}
    refused = server.client.post(path, json={**wanted, "stream": False})
    streamed = server.client.post(path, json={**wanted, "stream": True})
    assert streamed.status_code in (200, 400), streamed.text[:500]
    assert f'"code": "{CODE}"' in streamed.text, streamed.text[:500]
    assert refused.status_code == 400, refused.text[:500]
    assert refused.json()["error"]["code"] == CODE


@pytest.mark.parametrize("wanted", ODD, ids=str)
def test_no_odd_grammar_is_an_unexpected_error(server: Any, wanted: dict[str, Any]) -> None:
    answer = server.complete("upper", "x", structured_outputs=wanted)
    assert answer.status_code in (200, 400), answer.text[:500]
    assert server.complete("upper", "x").status_code == 200
