"""OpenAPI: the client's models and methods match docs/openapi.json.

That the document is the server's own is held by tests/e2e/docs/test_rest_reference.py.
"""

import inspect
import json
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from adaptry.client import Client
from adaptry.client.transport.operations import Download, Operation, Pages, Resource, Stream
from adaptry.client.transport.requests import Parameters, Request, Unset
from docs.generate.client_models import DOCUMENT as FILE
from docs.generate.client_models import MODELS, ROOT, models

Call = Operation[Any, Any] | Pages[Any, Any] | Stream[Any, Any] | Download[Any]
Json = dict[str, Any]

DOCUMENT: Json = json.loads(FILE.read_text(encoding="utf-8"))
MACHINERY = {"page_token", "last-event-id"}  # the client's own business
SOURCE = ROOT / "demo" / "adapters" / "upper"
SAMPLES: Json = {"reference": "bot:3", "weights": {1: 9, 2: 1}, "options": {}}
# The body is open: what each model's completion takes may stand in it. One method streams.
OPEN_BODIES = {
    name: {"max_tokens", "temperature", "stream"} for name in ("fanout", "fanout_stream")
}


def test_the_models_are_what_the_generator_writes() -> None:
    written = {path.name: path.read_text(encoding="utf-8") for path in MODELS.glob("*.py")}
    assert models(DOCUMENT) == written, "make reference"


def calls() -> Iterator[tuple[str, Call]]:
    """Every method of the client by its full name."""
    with Client() as client:
        public = {name: getattr(client, name) for name in dir(client) if name[0] != "_"}
        groups = {"": client, **{n: g for n, g in public.items() if isinstance(g, Resource)}}
    for name, group in groups.items():
        for attribute in dir(type(group)):
            call = inspect.getattr_static(type(group), attribute)
            if isinstance(call, (Operation, Pages, Stream, Download)):
                yield f"{name}.{attribute}".lstrip("."), call


def routed() -> list[tuple[str, Call]]:
    return [(name, call) for name, call in calls() if call.route]


def full_name(value: object) -> str:
    return value if isinstance(value, str) else ""


def operations() -> dict[tuple[str, str], Json]:
    return {
        (method.upper(), path): operation
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }


def described(call: Call) -> Json:
    assert call.route
    return operations()[call.route.method, call.route.path]


def test_every_operation_has_a_method_and_every_method_an_operation() -> None:
    assert {(call.route.method, call.route.path) for _, call in routed() if call.route} == set(
        operations()
    )
    without = {name for name, call in calls() if call.route is None}
    assert without == {"versions.register", "versions.push", "jobs.wait", "jobs.cancel_all"}


def test_the_client_s_page_lists_every_method() -> None:
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `client\.?(\w*)` \| (.*) \|$", page, re.MULTILINE)
    listed = [f"{g}.{m}".lstrip(".") for g, row in rows for m in re.findall(r"`(\w+)`", row)]
    assert sorted(listed) == sorted(name for name, _ in calls())


def sample(name: str, parameter: inspect.Parameter, hint: Any) -> Any:
    """A value that no default is equal to."""
    if name in SAMPLES:
        return SAMPLES[name]
    is_union = typing.get_origin(hint) in {typing.Union, types.UnionType}
    kinds = [
        kind for kind in (typing.get_args(hint) if is_union else (hint,)) if kind is not type(None)
    ]
    kind = next(kind for kind in kinds if kind is not Unset)
    kind = getattr(kind, "__value__", kind)  # of a type alias
    origin = typing.get_origin(kind) or kind
    if origin is typing.Literal:
        return next(v for v in typing.get_args(kind) if v != parameter.default)
    values: list[tuple[Any, Any]] = [
        (bool, not parameter.default),
        (int, 7),
        (float, 7.0),
        (datetime, datetime(2026, 1, 1, tzinfo=UTC)),
        (str, "text"),
        (Mapping, {"key": "value"}),
        (Sequence, ["a"]),
    ]
    return next(value for known, value in values if origin is known)


def given_everything(call: Call) -> Parameters | Request:
    """The request of the method if every argument is given."""
    function = inspect.unwrap(call.function)
    signature = inspect.signature(function)
    hints = typing.get_type_hints(function)
    arguments = {
        name: sample(name, parameter, hints[name])
        for name, parameter in signature.parameters.items()
        if name not in {"self", "on_bytes", "on_job", "source", "archive"}
    }
    if "source" in signature.parameters:
        arguments["source"] = SOURCE
    if "archive" in signature.parameters:
        arguments["archive"] = SOURCE / "adapter_config.json"
    told: Any = function(None, **arguments)
    return cast("Parameters | Request", next(told) if inspect.isgenerator(told) else told)


@pytest.mark.parametrize(("name", "call"), routed(), ids=full_name)
def test_a_method_can_give_all_that_the_operation_takes(name: str, call: Call) -> None:
    asked = given_everything(call)
    wanted = {p["name"] for p in described(call).get("parameters", []) if p["in"] != "path"}
    assert set(asked.query) == wanted - MACHINERY
    if isinstance(asked, Parameters):
        in_path = {p["name"] for p in described(call).get("parameters", []) if p["in"] == "path"}
        assert set(asked.path) == in_path
    if name != "versions.upload":
        free = OPEN_BODIES.get(name, set())
        assert set(asked.body or ()) - free == properties_of(call) - free


def properties_of(call: Call) -> set[str]:
    body = described(call).get("requestBody", {}).get("content", {}).get("application/json")
    if body is None:
        return set()
    schema = body["schema"]
    for part in schema.get("anyOf", [schema]):
        if "$ref" in part:
            schema = DOCUMENT["components"]["schemas"][part["$ref"].rpartition("/")[2]]
    return set(schema["properties"])


@pytest.mark.parametrize(("name", "call"), routed(), ids=full_name)
def test_a_method_answers_with_what_the_operation_gives(name: str, call: Call) -> None:
    answers = {
        code: answer for code, answer in described(call)["responses"].items() if code[0] == "2"
    }
    if name in {"versions.submit", "versions.upload"}:
        assert sorted(answers) == ["200", "201", "202"]
        return
    (answer,) = answers.values()
    if name in {"is_alive", "is_ready"}:
        assert set(answers) == {"200"}, "the status says it all"
        return
    returned = inspect.unwrap(call.function).__annotations__.get("return")
    if isinstance(call, Stream):
        assert "text/event-stream" in answer["content"]
    elif isinstance(call, Download):
        assert set(answer["content"]) & {"application/x-tar", "application/x-ndjson"}
    elif isinstance(call, Pages):
        page = schema_of(answer)
        assert page["properties"]["items"]["items"]["$ref"].endswith(f"/{call.item.__name__}")
    elif "content" not in answer:
        assert returned is type(None)
    else:
        assert schema_of(answer)["title"] in re.findall(r"\w+", str(returned))


def schema_of(answer: Json) -> Json:
    name = answer["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    schema: Json = DOCUMENT["components"]["schemas"][name]
    return schema


@pytest.mark.parametrize(("name", "call"), list(calls()), ids=full_name)
def test_a_method_has_a_sentence_of_help(name: str, call: Call) -> None:
    assert (call.__doc__ or "").partition("\n")[0].endswith((".", ":")), name
