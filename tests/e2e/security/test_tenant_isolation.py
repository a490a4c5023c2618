"""What one tenant learns of another on a real server: over every route that it has, and by time.

The routes are those that the server itself names, vLLM's too. Where one takes a name, another
tenant's adapter has to be answered exactly as one that does not exist.
"""

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.support.servers.adaptry_serve import ROOT
from tests.support.servers.adaptry_serve_with_keys import Keyed, serving_with_keys

pytestmark = [pytest.mark.servers("forked")]

Json = dict[str, Any]

BASE = "tiny-text-tools"
HIDDEN, NOBODY = "acme~zebra-7f3a", "acme~quagga-1b2c"
SAID_OF_IT = "okapi"  # in its description, its tags and an alias; no request names it
PROMPT = "abcdefgh" * 24  # longer than a block of the prefix cache
NAMES = frozenset({"name", "reference", "adapter", "model", "parent"})
ANYTHING: Json = {
    "prompt": "hello=",
    "messages": [{"role": "user", "content": "hello"}],
    "input": "hello",
    "max_tokens": 1,
    "text_1": "a",
    "text_2": "b",
    "query": "a",
    "documents": ["b"],
    "tokens": [5, 6],
    "token_ids": [5, 6],
    "sampling_params": {"max_tokens": 1},
}
"""Something for each of vLLM's routes; what one of them does not know it ignores."""


@dataclass
class Tenants:
    """`acme` has an adapter that is in use and pinned; `other` may do all that a tenant may."""

    keyed: Keyed
    root: httpx.Client
    acme: httpx.Client
    other: httpx.Client

    def grant(self) -> None:
        with self.keyed.client(self.keyed.root) as root:
            root.tenants.grant(HIDDEN, "other")

    def revoke(self) -> None:
        with self.keyed.client(self.keyed.root) as root:
            root.tenants.revoke(HIDDEN, "other")


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tenants]:
    folder = tmp_path_factory.mktemp("walls")
    with serving_with_keys(folder, ["--enable-prompt-tokens-details"]) as keyed:
        with keyed.client(keyed.root) as root:
            for tenant in ("acme", "other"):
                root.tenants.create(tenant)
            source = str(ROOT / "demo" / "adapters" / "upper")
            root.versions.register(HIDDEN, source, description=SAID_OF_IT, tags=[SAID_OF_IT])
            root.aliases.set(HIDDEN, SAID_OF_IT, version=1)
            root.cache.pin(HIDDEN)
        keys = [keyed.root, *(keyed.key(f"{each}~boss", "admin") for each in ("acme", "other"))]
        root_http, acme, other = map(keyed.http, keys)
        with root_http, acme, other:
            yield Tenants(keyed, root_http, acme, other)


# ---- over every route ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    parameters: tuple[tuple[str, str, Mapping[str, Any]], ...]  # where, name, schema
    body: Mapping[str, Any] | None  # its schema, of ours; of vLLM's anything will do

    def names_an_adapter(self) -> bool:
        named = {name for _, name, _ in self.parameters} | set(self.body or ())
        return bool(named & NAMES) or (self.method == "POST" and not self.is_ours)

    @property
    def is_ours(self) -> bool:
        return self.path.startswith("/api/")

    def ask(self, client: httpx.Client, adapter: str) -> tuple[int, str]:
        """Status and text; of a stream, how it begins."""
        path, query = self.path, {}
        for where, name, schema in self.parameters:
            value = adapter if name in NAMES else _some(schema)
            if where == "path":
                path = path.replace(f"{{{name}}}", str(value))
            elif where == "query" and name in NAMES:
                query[name] = value
        body = None
        if self.method in ("POST", "PUT", "PATCH"):
            body = self._body(adapter)
        with client.stream(self.method, path, params=query, json=body) as answer:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                return answer.status_code, next(answer.iter_text())
            return answer.status_code, answer.read().decode(errors="replace")

    def _body(self, adapter: str) -> Json:
        if self.is_ours:
            named = (self.body or {}).items()
            return {name: adapter if name in NAMES else _some(each) for name, each in named}
        return {**ANYTHING, "model": adapter}


def _some(schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    if kind in ("integer", "number"):
        return 1
    return {"array": [], "object": {}, "boolean": False}.get(str(kind), "default")


def routes(document: Json) -> Iterator[Route]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if method not in ("get", "post", "put", "patch", "delete"):
                continue
            parameters = tuple(
                (each["in"], each["name"], each.get("schema", {}))
                for each in operation.get("parameters", ())
            )
            yield Route(method.upper(), path, parameters, _required(operation, document))


def _required(operation: Json, document: Json) -> Json | None:
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get("application/json", {}).get("schema", {})
    if "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    properties: Json = schema.get("properties", {})
    wanted = {*schema.get("required", ()), *(NAMES & properties.keys())}
    return {name: each for name, each in properties.items() if name in wanted} or None


def test_no_route_knows_the_adapter_of_another_tenant(tenants: Tenants) -> None:
    every = list(routes(tenants.root.get("/openapi.json").json()))
    named = [route for route in every if route.names_an_adapter()]
    assert {"/v1/chat/completions", "/generate", "/api/v1/cache/why/{reference}"} <= {
        route.path for route in named
    }
    told = {}
    for route in every:
        status, text = route.ask(tenants.other, HIDDEN)
        said = text.replace(HIDDEN, "")
        assert status < 500, (route, text)
        assert "zebra" not in said, route
        assert SAID_OF_IT not in said, route
        told[route.method, route.path] = (status, said)
    for route in named:
        status, text = route.ask(tenants.other, NOBODY)
        assert told[route.method, route.path] == (status, text.replace(NOBODY, "")), route


def test_the_walk_meets_the_adapter_where_it_may_be_seen(tenants: Tenants) -> None:
    """Else the test above could not fail."""
    seen = set()
    for route in routes(tenants.root.get("/openapi.json").json()):
        if route.method == "GET" and not route.path.startswith(("/console", "/docs")):
            status, text = route.ask(tenants.acme, HIDDEN)
            if status == 200 and "zebra" in text:
                seen.add(route.path)
    assert seen >= {
        "/v1/models",
        "/api/v1/cache",
        "/api/v1/cache/pins",
        "/api/v1/cache/decisions",
        "/api/v1/cache/why/{reference}",
        "/api/v1/adapters",
        "/api/v1/adapters/{name}",
    }


# ---- by time -------------------------------------------------------------------------------------


def _found(client: httpx.Client, model: str, prompt: str = PROMPT, **more: object) -> int:
    """How many tokens of the prompt were in the prefix cache."""
    body = {"model": model, "prompt": prompt, "max_tokens": 1, **more}
    answer = client.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    return int((answer.json()["usage"]["prompt_tokens_details"] or {}).get("cached_tokens") or 0)


@pytest.mark.parametrize("model", [BASE, HIDDEN])
def test_no_tenant_finds_the_prompts_of_another_tenant_in_the_prefix_cache(
    tenants: Tenants, model: str
) -> None:
    tenants.grant()
    try:
        assert _found(tenants.acme, model) == 0
        assert _found(tenants.acme, model) > 0
        assert _found(tenants.other, model) == 0
        assert _found(tenants.other, model, cache_salt="acme~") == 0
        assert _found(tenants.root, model) == 0
        assert _found(tenants.other, model) > 0
        assert _found(tenants.root, model) > 0
    finally:
        tenants.revoke()


def test_of_several_completions_none_is_found_by_another_tenant(tenants: Tenants) -> None:
    prompt = PROMPT[::-1]
    _found(tenants.acme, BASE, prompt, n=2, temperature=1)
    assert _found(tenants.other, BASE, prompt) == 0
    assert _found(tenants.root, BASE, prompt) == 0
    assert _found(tenants.acme, BASE, prompt) > 0


# ---- by ending it --------------------------------------------------------------------------------


def test_who_leaves_ends_no_request_of_another_tenant_that_has_the_same_id(
    tenants: Tenants,
) -> None:
    body = {"model": BASE, "prompt": "hello=", "max_tokens": 8, "ignore_eos": True}
    same = {"x-request-id": "same"}
    served = tenants.keyed.served
    engine = served.engine_process()
    with ThreadPoolExecutor(1) as pool, tenants.keyed.client(tenants.keyed.root) as root:

        def in_flight(tenant: str) -> int:
            return root.tenants.get(tenant).usage.requests_in_flight

        engine.suspend()
        try:
            asking = pool.submit(tenants.acme.post, "/v1/completions", json=body, headers=same)
            served.wait_until(lambda: in_flight("acme") == 1)
            with pytest.raises(httpx.ReadTimeout):
                tenants.other.post("/v1/completions", json=body, headers=same, timeout=2)
            served.wait_until(lambda: in_flight("other") == 0)
        finally:
            engine.resume()
        answer = asking.result()
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert answer.json()["usage"]["completion_tokens"] == 8
