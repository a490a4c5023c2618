"""API keys on both databases: created, authenticated, refused with a code, shown only once."""

import asyncio
import base64
import json
import logging
import os
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.types import Message, Receive, Send
from starlette.types import Scope as AsgiScope

from registry.api.access.keys import create_key_router
from registry.api.access.whoami import create_whoami_router
from registry.auth.caller import current_caller
from registry.auth.key_secret import new_key, parse_key
from registry.auth.keys import FRESH_SECONDS, KeyService
from registry.auth.scopes import RULES, Scope, scopes_for
from registry.database.engine import Database
from registry.errors import InvalidKey
from registry.http.authentication import AuthenticationMiddleware
from registry.models import now
from registry.models.api_key import ApiKey
from tests.api.conftest import AdapterMaker
from tests.support.servers.asgi_server import take_in

ROOT = Path(__file__).parents[3]
ADMIN, PUBLISH, OPERATE, INFER = Scope.ADMIN, Scope.PUBLISH, Scope.OPERATE, Scope.INFER


class Guarded:
    """The registry's API behind the guard, asked with one key or another."""

    def __init__(self, http: httpx.AsyncClient, keys: KeyService) -> None:
        self.http = http
        self.keys = keys

    async def key(self, name: str, *scopes: Scope, **options: Any) -> str:
        text, _ = await self.keys.create(name, scopes, actor="tests", **options)
        return text

    async def ask(
        self, method: str, path: str, key: str | None = None, **options: Any
    ) -> httpx.Response:
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return await self.http.request(method, path, headers=headers, **options)

    async def says(
        self, method: str, path: str, key: str | None = None, **options: Any
    ) -> tuple[int, str]:
        """Status, and code of a problem."""
        response = await self.ask(method, path, key, **options)
        return response.status_code, response.json().get("code", "")


@pytest.fixture
def keys(database: Database) -> KeyService:
    return KeyService(database)


@pytest.fixture
async def guarded(app: FastAPI, keys: KeyService) -> AsyncIterator[Guarded]:
    take_in(app, create_key_router(keys))
    take_in(app, create_whoami_router(keys))

    @app.get("/v1/models")
    async def models() -> dict[str, str]:
        return {}

    transport = httpx.ASGITransport(
        app=AuthenticationMiddleware(app, authenticate=keys.authenticate)
    )
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield Guarded(http, keys)


async def test_without_a_key_nothing_is_revealed(guarded: Guarded) -> None:
    for path in ("/api/v1/adapters", "/api/v1/keys", "/api/v1/nowhere", "/metrics", "/other"):
        response = await guarded.ask("GET", path)
        assert response.status_code == 401, path
        assert response.headers["www-authenticate"].startswith("Bearer")
    assert await guarded.says("GET", "/api/v1/adapters") == (401, "key_required")
    openai = (await guarded.ask("GET", "/v1/models")).json()["error"]
    assert (openai["code"], openai["type"]) == ("key_required", "authentication_error")
    assert (await guarded.ask("GET", "/docs")).status_code == 200


async def test_each_key_may_ask_whose_it_is(guarded: Guarded, app: FastAPI) -> None:
    expires_at = now() + timedelta(days=1)
    for name, scope, expiry in (("app", INFER, None), ("ci", PUBLISH, expires_at)):
        key = await guarded.key(name, scope, expires_at=expiry)
        answer = await guarded.ask("GET", "/api/v1/whoami", key)
        shown = answer.json()
        assert (shown["name"], shown["tenant"], shown["scopes"]) == (name, None, [scope])
        assert key.startswith(shown["prefix"])
        assert len(shown["prefix"]) < len(key) // 2
        assert key not in answer.text
        assert (shown["expires_at"] is None) == (expiry is None)
    assert await guarded.says("GET", "/api/v1/whoami") == (401, "key_required")
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        anonymous = (await http.get("/api/v1/whoami")).json()
    assert (anonymous["name"], anonymous["prefix"]) == ("api", None), "where no keys are required"
    assert anonymous["scopes"] == sorted(Scope)


async def test_a_key_is_good_for_its_scopes_only(guarded: Guarded) -> None:
    infer, publish = await guarded.key("app", INFER), await guarded.key("ci", PUBLISH)
    operate, admin = await guarded.key("sre", OPERATE), await guarded.key("root", ADMIN)
    cases = [
        ("GET", "/v1/models", {infer: 200, publish: 403, operate: 403, admin: 200}),
        ("GET", "/api/v1/adapters", {infer: 200, publish: 200, operate: 200, admin: 200}),
        ("GET", "/api/v1/events", {infer: 403, publish: 403, operate: 200, admin: 200}),
        ("GET", "/api/v1/keys", {infer: 403, publish: 403, operate: 403, admin: 200}),
        ("POST", "/api/v1/gc", {infer: 403, publish: 403, operate: 200, admin: 200}),
        ("DELETE", "/unheard-of", {infer: 403, publish: 403, operate: 403, admin: 404}),
    ]
    for method, path, expected in cases:
        for key, status in expected.items():
            assert (await guarded.ask(method, path, key)).status_code == status, (path, key)
    response = await guarded.ask("POST", "/api/v1/gc", infer)
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["detail"].endswith("operate")


@pytest.mark.both_databases
async def test_events_say_whose_key_it_was(guarded: Guarded, make_adapter: AdapterMaker) -> None:
    key, sre = await guarded.key("ci", PUBLISH), await guarded.key("sre", OPERATE)
    body = {"source": str(make_adapter("one"))}
    registered = await guarded.ask("POST", "/api/v1/adapters/bot/versions", key, json=body)
    assert registered.status_code == 201, registered.text
    assert registered.json()["created_by"] == "ci"
    events = (await guarded.ask("GET", "/api/v1/events", sre)).json()["items"]
    assert {event["actor"] for event in events if event["adapter"] == "bot"} == {"ci"}


async def test_a_key_is_shown_once_and_kept_as_a_hash(guarded: Guarded, database: Database) -> None:
    root = await guarded.key("root", ADMIN)
    body = {"name": "app", "scopes": ["infer"]}
    made = await guarded.ask("POST", "/api/v1/keys", root, json=body)
    assert made.status_code == 201, made.text
    content = made.json()
    text = content.pop("key")
    assert text.startswith(content["prefix"])
    assert (content["created_by"], content["scopes"]) == ("root", ["infer"])
    assert (await guarded.ask("GET", "/v1/models", text)).status_code == 200
    shown = [
        (await guarded.ask("GET", path, root)).text
        for path in ("/api/v1/keys", "/api/v1/keys/app", "/api/v1/events")
    ]
    secret = text.removeprefix(content["prefix"])
    assert all(secret not in page for page in shown)
    assert '"key.created"' in shown[-1]
    async with database.read_session() as session:
        rows = (await session.execute(select(ApiKey))).scalars().all()
    assert len(rows) == 2
    assert all(secret not in str(row.model_dump()) for row in rows)


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key.replace("adp_", "adp-"),
        lambda key: "adp_" + "0" * 12 + key[16:],
        lambda key: key + "x",
        lambda key: "",
        lambda key: "x" * 5000,
        lambda key: key.upper(),
    ],
)
async def test_what_is_no_good_key_is_refused_alike(guarded: Guarded, spoiled: Any) -> None:
    key = await guarded.key("root", ADMIN)
    response = await guarded.ask("GET", "/api/v1/adapters", spoiled(key))
    assert (response.status_code, response.json()["code"]) == (401, "invalid_key")
    assert response.json()["detail"] == "this API key is unknown, expired or revoked"


async def test_other_schemes_are_refused(guarded: Guarded) -> None:
    await guarded.key("root", ADMIN)
    answer = await guarded.http.get("/api/v1/adapters", auth=("root", "password"))
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_key")
    good = await guarded.key("second", ADMIN)
    for scheme, status in (("Basic", 401), ("Token", 401), ("bearer", 200), ("BEARER", 200)):
        headers = {"authorization": f"{scheme} {good}"}
        answer = await guarded.http.get("/api/v1/adapters", headers=headers)
        assert answer.status_code == status, scheme


async def test_a_websocket_needs_a_key_as_a_request_does(keys: KeyService) -> None:
    reached: list[str] = []
    sent: list[Message] = []

    async def inside(scope: AsgiScope, receive: Receive, send: Send) -> None:
        reached.append(current_caller().name)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    guard = AuthenticationMiddleware(inside, authenticate=keys.authenticate)
    good, _ = await keys.create("app", [INFER], actor="tests")
    other, _ = await keys.create("ci", [PUBLISH], actor="tests")
    given = {"": "key_required", "Bearer x": "invalid_key", f"Bearer {other}": "scope_missing"}
    for authorization in (*given, f"Bearer {good}"):
        headers = [(b"authorization", authorization.encode())] if authorization else []
        scope = {"type": "websocket", "path": "/v1/realtime", "headers": headers}
        await guard(scope, receive, send)
    assert sent == [
        {"type": "websocket.close", "code": 1008, "reason": code} for code in given.values()
    ]
    assert reached == ["app"]


async def test_keys_end_when_they_expire(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    end = now() + timedelta(hours=1)
    key = await guarded.key("short", INFER, expires_at=end)
    assert (await guarded.ask("GET", "/v1/models", key)).status_code == 200
    monkeypatch.setattr("registry.auth.keys.now", lambda: end)
    assert await guarded.says("GET", "/api/v1/adapters", key) == (401, "invalid_key")


async def refuses(service: KeyService, key: str) -> bool:
    try:
        await service.authenticate(key)
    except InvalidKey as error:
        return "revoked" in str(error)
    return False


@pytest.mark.both_databases
async def test_a_revoked_key_is_refused_immediately_and_elsewhere_soon(
    guarded: Guarded, database: Database
) -> None:
    root, key = await guarded.key("root", ADMIN), await guarded.key("app", INFER)
    elsewhere = KeyService(database)
    await elsewhere.authenticate(key)
    assert await guarded.says("GET", "/api/v1/adapters", key) == (200, "")
    revoked = await guarded.ask("DELETE", "/api/v1/keys/app", root)
    assert revoked.json()["revoked_at"] is not None
    assert await guarded.says("GET", "/api/v1/adapters", key) == (401, "invalid_key")
    async with asyncio.timeout(FRESH_SECONDS + 10):
        while not await refuses(elsewhere, key):
            await asyncio.sleep(0.05)
    assert (await guarded.ask("DELETE", "/api/v1/keys/app", root)).status_code == 200
    assert await guarded.says("POST", "/api/v1/keys/app/rotate", root) == (409, "key_revoked")
    limit = {"max_requests_per_minute": 1}
    changed = await guarded.says("PATCH", "/api/v1/keys/app", root, json=limit)
    assert changed == (409, "key_revoked")


@pytest.mark.both_databases
async def test_rotation_gives_a_while_to_change(guarded: Guarded) -> None:
    root, old = await guarded.key("root", ADMIN), await guarded.key("app", INFER)
    rotated = await guarded.ask("POST", "/api/v1/keys/app/rotate", root, json={"keep_hours": 1})
    new = rotated.json()["key"]
    assert new != old
    assert new[:17] == old[:17], "the same key, with another secret"
    for key in (old, new):
        assert (await guarded.ask("GET", "/v1/models", key)).status_code == 200
    again = await guarded.ask("POST", "/api/v1/keys/app/rotate", root, json={"keep_hours": 0})
    newest = again.json()["key"]
    statuses = [
        (await guarded.ask("GET", "/v1/models", key)).status_code for key in (old, new, newest)
    ]
    assert statuses == [401, 401, 200]


@pytest.mark.both_databases
async def test_the_last_admin_key_can_not_be_revoked(guarded: Guarded) -> None:
    root = await guarded.key("root", ADMIN)
    assert await guarded.says("DELETE", "/api/v1/keys/root", root) == (409, "last_admin_key")
    await guarded.key("expired", ADMIN, expires_at=now() - timedelta(seconds=1))
    assert await guarded.says("DELETE", "/api/v1/keys/root", root) == (409, "last_admin_key")
    await guarded.key("second", ADMIN)
    assert await guarded.says("DELETE", "/api/v1/keys/root", root) == (200, "")


@pytest.mark.both_databases
async def test_two_who_revoke_each_other_leave_one(guarded: Guarded) -> None:
    one, two = await guarded.key("one", ADMIN), await guarded.key("two", ADMIN)
    answers = await asyncio.gather(
        guarded.ask("DELETE", "/api/v1/keys/two", one),
        guarded.ask("DELETE", "/api/v1/keys/one", two),
    )
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert statuses[1] in (401, 409), "the other was revoked by then, or is the last one"


async def test_bad_input_is_a_problem(guarded: Guarded) -> None:
    root = await guarded.key("root", ADMIN)
    for body in (
        {"name": "No Name", "scopes": ["infer"]},
        {"name": "app", "scopes": []},
        {"name": "app", "scopes": ["everything"]},
        {"name": "app", "scopes": ["infer"], "expires_at": "tomorrow"},
        {"name": "app", "scopes": ["infer"], "expires_at": "9999-12-31T23:59:59-23:59"},
        {"name": "app", "scopes": ["infer"], "expires_at": "2030-01-01T00:00:00"},
        {"name": "app", "scopes": ["infer"], "secret": "mine"},
    ):
        assert await guarded.says("POST", "/api/v1/keys", root, json=body) == (
            422,
            "invalid_request",
        ), body
    same = {"name": "root", "scopes": ["infer"]}
    assert await guarded.says("POST", "/api/v1/keys", root, json=same) == (409, "key_exists")
    assert await guarded.says("GET", "/api/v1/keys/nobody", root) == (404, "unknown_key")
    assert await guarded.says("POST", "/api/v1/keys/nobody/rotate", root) == (404, "unknown_key")
    assert await guarded.says("DELETE", "/api/v1/keys/nobody", root) == (404, "unknown_key")


@pytest.mark.both_databases
async def test_when_a_key_was_used_is_written_down(guarded: Guarded) -> None:
    root = await guarded.key("root", ADMIN)
    before = now()
    assert (await guarded.ask("GET", "/api/v1/keys/root", root)).json()["last_used_at"] is None
    await guarded.keys.save_last_used()
    shown = (await guarded.ask("GET", "/api/v1/keys/root", root)).json()["last_used_at"]
    assert before.isoformat()[:19] <= shown[:19]


async def test_a_list_of_keys_has_each_once_by_page(guarded: Guarded) -> None:
    root = await guarded.key("root", ADMIN)
    for n in range(3):
        await guarded.key(f"app-{n}", INFER)
    expected = ["root", "app-0", "app-1", "app-2"]
    for limit in (1, 2, 3, 4):
        found: list[str] = []
        token: str | None = None
        for _ in range(0, len(expected), limit):
            query = f"limit={limit}" + (f"&page_token={token}" if token else "")
            page = (await guarded.ask("GET", f"/api/v1/keys?{query}", root)).json()
            found += [key["name"] for key in page["items"]]
            token = page["next_page_token"]
        assert (found, token) == (expected, None)


async def test_no_key_is_in_the_log(guarded: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    root = await guarded.key("root", ADMIN)
    await guarded.ask("GET", "/api/v1/adapters", root)
    await guarded.ask("GET", "/api/v1/adapters", root + "x")
    assert caplog.records
    assert root[17:] not in caplog.text


def test_every_route_has_a_rule_of_its_own() -> None:
    """No route of Adaptry needs `admin` only because a rule is missing."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    fallback = RULES.index(next(rule for rule in RULES if rule.path.pattern == "/api/.*"))
    assert len(document["paths"]) > 40
    for path, operations in document["paths"].items():
        concrete = path.replace("{", "").replace("}", "")
        for method in operations:
            rules = [
                n
                for n, rule in enumerate(RULES)
                if rule.path.fullmatch(concrete)
                and (not rule.methods or method.upper() in rule.methods)
            ]
            assert rules, f"{method} {path}"
            assert rules[0] != fallback, f"{method} {path}"


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("POST", "/v1/chat/completions", {INFER}),
        ("POST", "/v1/load_lora_adapter", {PUBLISH}),
        ("POST", "/v1/loras", {PUBLISH}),
        ("DELETE", "/v1/loras/org/name", {PUBLISH}),
        ("GET", "/v1/loras", {INFER}),
        ("POST", "/", {INFER}),
        ("GET", "/", set()),
        ("POST", "/generate_stream", {INFER}),
        ("GET", "/info", {INFER}),
        ("POST", "/adapters", {PUBLISH}),
        ("DELETE", "/adapters/a", {PUBLISH}),
        ("POST", "/api/v1/cache/pins", {OPERATE}),
        ("POST", "/api/v1/adapters/a/versions/1/retire", {PUBLISH}),
        ("POST", "/api/v1/adapters/a/versions/1/purge", {OPERATE}),
        ("GET", "/api/v1/adapters/a/versions/1/files", {OPERATE, PUBLISH}),
        ("PUT", "/api/v1/adapters/a/aliases/prod", {PUBLISH}),
        ("POST", "/metrics", {ADMIN}),
        ("GET", "/healthz", set()),
        ("GET", "/console/app.js", set()),
        ("POST", "/collective_rpc", {ADMIN}),
        ("POST", "/sleep", {ADMIN}),
        ("GET", "//api/v1/keys", {ADMIN}),
        ("GET", "/api/v1/../../healthz", {ADMIN}),
    ],
)
def test_what_each_request_needs(method: str, path: str, scopes: set[Scope]) -> None:
    assert scopes_for(method, path) == scopes


def test_a_key_has_the_form_that_scanners_look_for() -> None:
    assert parse_key("adp_" + "0" * 12 + "_" + "A" * 43) is not None
    assert parse_key("adp_" + "0" * 12 + "_" + "A" * 42) is None
    assert parse_key(os.urandom(20).hex()) is None


def test_a_key_has_256_random_bits_and_is_compared_in_constant_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    texts = [new_key()[0] for _ in range(100)]
    secrets = {text[17:] for text in texts}
    assert len(secrets) == 100
    assert {len(base64.urlsafe_b64decode(secret + "=")) * 8 for secret in secrets} == {256}
    compared = []

    def compare(one: str, other: str) -> bool:
        compared.append((one, other))
        return one == other

    monkeypatch.setattr("registry.auth.key_secret.hmac.compare_digest", compare)
    presented = parse_key(texts[0])
    assert presented is not None
    assert not presented.matches("0" * 64)
    assert presented.matches(presented.secret_hash)
    assert len(compared) == 2
