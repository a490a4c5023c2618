"""The default adapter: for requests that name the base model or nothing, and for no others."""

import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from engine.gateway.default_adapter import DefaultAdapter
from engine.gateway.in_flight import RequestsInFlight
from engine.gateway.middleware import AdapterGateway
from engine.gateway.request_body import RequestBody
from engine.gateway.request_context import requested_adapter
from engine.telemetry.spans import NullTracing
from engine.types import AdapterVersion
from registry.auth.caller import Caller, as_caller
from registry.auth.scopes import EVERY_SCOPE
from registry.errors import UnknownAdapter, VersionUnavailable
from tests.support.cache.controller_harness import adapter

CHAT = "/v1/chat/completions"


class Resolver:
    """`upper` exists; `retired` does no more; to tenants none of them does, but `own` to `acme`."""

    def __init__(self) -> None:
        self.tenant: str | None = None

    async def resolve(self, text: str, user: Callable[[], str] | None = None) -> AdapterVersion:
        if text == "retired":
            raise VersionUnavailable("retired:1", "retired", "old")
        if text != ("own" if self.tenant == "acme" else "upper") or self.tenant == "other":
            raise UnknownAdapter(text)
        return adapter(1)

    async def find(self, text: str) -> AdapterVersion:
        return await self.resolve(text)


class Tally:
    def count_request(self, adapter: str, outcome: str, seconds: float) -> None: ...
    def count_refusal(self, code: str) -> None: ...


async def whoever_was_asked(scope: Scope, receive: Receive, send: Send) -> None:
    body = await Request(scope, receive).body()
    content = {"adapter": requested_adapter(), "body": json.loads(body) if body else None}
    await JSONResponse(content)(scope, receive, send)


async def ask(
    default: str | None,
    path: str = CHAT,
    tenant: str | None = None,
    sagemaker: str | None = None,
    prefix: str = "",
    **body: Any,
) -> tuple[int, Any]:
    resolver = Resolver()
    resolver.tenant = tenant
    gateway = AdapterGateway(
        whoever_was_asked,
        resolver=resolver,
        base_models=frozenset({"base", "base-too"}),
        counter=Tally(),
        tracing=NullTracing(),
        unavailable=lambda: None,
        in_flight=RequestsInFlight(lambda: None),
        own_prefix="/api/",
        max_body_bytes=1000,
        default_adapter=default,
    )
    transport = httpx.ASGITransport(app=gateway, root_path=prefix)
    headers = {} if sagemaker is None else {"X-Amzn-SageMaker-Adapter-Identifier": sagemaker}
    caller = Caller("app" if tenant is None else f"{tenant}~app", EVERY_SCOPE)
    with as_caller(caller):
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            answer = await http.post(prefix + path, json=body, headers=headers)
    content = answer.json()
    if answer.status_code == 200:
        return 200, (content["adapter"], content["body"].get("model"))
    return answer.status_code, content["error"]["code"]


@pytest.mark.parametrize("body", [{"model": "base"}, {"model": "base-too"}, {}, {"model": ""}])
async def test_the_base_model_and_nothing_mean_the_default(body: dict[str, str]) -> None:
    assert await ask("upper", messages=[], **body) == (200, ("upper", "upper"))
    expected = body.get("model")
    assert await ask(None, messages=[], **body) == (200, (None, expected)), "off by default"


async def test_the_base_model_in_sagemakers_header_means_the_default_too() -> None:
    path = "/invocations"
    assert await ask("upper", path, sagemaker="base", prompt="x") == (200, ("upper", "upper"))
    assert await ask(None, path, sagemaker="base", prompt="x") == (200, (None, None))
    assert await ask("nobody", path, sagemaker="upper", prompt="x") == (200, ("upper", None))


async def test_a_proxys_prefix_changes_nothing() -> None:
    assert await ask("upper", prefix="/proxied", model="base") == (200, ("upper", "upper"))
    large = {"source": "x" * 2000}
    assert await ask("upper", "/api/v1/import", prefix="/proxied", **large) == (200, (None, None))


async def test_other_names_and_other_routes_mean_what_they_say() -> None:
    assert await ask("upper", model="nobody") == (404, "model_not_found")
    assert await ask("nobody", model="upper") == (200, ("upper", "upper"))
    for path in ("/v1/load_lora_adapter", "/pause", "/v1/fanout", "/detokenize"):
        assert await ask("upper", path, model="base") == (200, (None, "base"))


@pytest.mark.parametrize("content", [b"[1]", b"{", b""])
async def test_a_body_that_is_no_object_is_left_to_its_route(content: bytes) -> None:
    """Which says what is wrong with it."""
    default = DefaultAdapter("upper", Resolver(), frozenset({"base"}))
    scope = {"type": "http", "method": "POST", "path": CHAT, "headers": []}
    assert (await default.apply(scope, RequestBody(content))).content == content


async def test_a_default_that_can_not_be_served_is_no_reason_to_answer_with_the_base_model() -> (
    None
):
    assert await ask("nobody", model="base") == (404, "model_not_found")
    assert await ask("retired", model="base") == (404, "version_retired")


async def test_a_tenant_has_its_own_default_or_the_base_model() -> None:
    assert await ask("own", tenant="acme", model="base") == (200, ("own", "own"))
    assert await ask("own", tenant="other", model="base") == (200, (None, "base"))
    assert await ask("retired", tenant="other", model="base") == (404, "version_retired")
