"""Tenants and grants on both databases: namespaces, who may make them, who may use what."""

import pytest
from fastapi import FastAPI

from registry.auth.scopes import Scope
from tests.api.conftest import AdapterMaker
from tests.api.keyed_client import Asked

pytestmark = pytest.mark.both_databases


async def test_a_tenant_is_made_changed_and_removed(asked: Asked) -> None:
    made = await asked.ask("root", "POST", "/tenants", json={"name": "acme", "max_pins": 2})
    assert made.status_code == 201, made.text
    assert (made.json()["max_pins"], made.json()["max_slots"]) == (2, None)
    changed = await asked.ask("root", "PATCH", "/tenants/acme", json={"max_slots": 3})
    assert (changed.json()["max_pins"], changed.json()["max_slots"]) == (2, 3)
    assert await asked.says("root", "POST", "/tenants", json={"name": "acme"}) == (
        409,
        "tenant_exists",
    )
    assert (await asked.ask("root", "DELETE", "/tenants/acme")).status_code == 204
    assert await asked.says("root", "GET", "/tenants/acme") == (404, "unknown_tenant")


async def test_a_tenants_admin_manages_its_own_keys_and_sees_no_other(asked: Asked) -> None:
    for tenant in ("acme", "other"):
        await asked.ask("root", "POST", "/tenants", json={"name": tenant})
        await asked.key(f"{tenant}~boss", Scope.ADMIN)
    made = await asked.ask(
        "acme~boss", "POST", "/keys", json={"name": "acme~app", "scopes": ["infer"]}
    )
    assert made.status_code == 201, made.text
    assert made.json()["tenant"] == "acme"
    listed = (await asked.ask("acme~boss", "GET", "/keys")).json()["items"]
    assert [key["name"] for key in listed] == ["acme~boss", "acme~app"]
    for name in ("other~boss", "root", "other~none"):
        assert await asked.says("acme~boss", "GET", f"/keys/{name}") == (404, "unknown_key")
        assert await asked.says("acme~boss", "DELETE", f"/keys/{name}") == (404, "unknown_key")
    for name in ("app", "other~app", "none~app"):
        body = {"name": name, "scopes": ["infer"]}
        assert await asked.says("acme~boss", "POST", "/keys", json=body) == (404, "unknown_tenant")
    body = {"name": "none~app", "scopes": ["infer"]}
    assert await asked.says("root", "POST", "/keys", json=body) == (404, "unknown_tenant")
    assert await asked.says("root", "DELETE", "/keys/root") == (409, "last_admin_key")
    assert await asked.says("root", "DELETE", "/keys/other~boss") == (200, ""), (
        "a tenant may have none"
    )
    assert await asked.says("acme~boss", "GET", "/tenants") == (403, "platform_only")
    assert await asked.says("acme~boss", "GET", "/webhooks") == (403, "platform_only")
    assert await asked.says("acme~boss", "GET", "/tenants/acme") == (200, "")
    assert await asked.says("acme~boss", "GET", "/tenants/other") == (404, "unknown_tenant")
    assert await asked.says("root", "DELETE", "/tenants/acme") == (409, "tenant_not_empty")


async def test_what_is_registered_under_a_tenant_needs_one(
    asked: Asked, make_adapter: AdapterMaker
) -> None:
    body = {"source": str(make_adapter("one"))}
    path = "/adapters/acme~bot/versions"
    assert await asked.says("root", "POST", path, json=body) == (404, "unknown_tenant")
    await asked.ask("root", "POST", "/tenants", json={"name": "acme"})
    registered = await asked.ask("root", "POST", path, json=body)
    assert registered.status_code == 201, registered.text
    assert registered.json()["reference"] == "acme~bot:1"
    await asked.key("acme~boss", Scope.ADMIN)
    switch = {"serve_chat_template": True}  # it lets the tenant's templates, programs, run here
    adapter = "/adapters/acme~bot"
    assert await asked.says("acme~boss", "PATCH", adapter, json=switch) == (403, "platform_only")
    assert await asked.says("root", "PATCH", adapter, json=switch) == (200, "")
    switch = {"serve_chat_template": False, "serve_sampling_defaults": True}
    assert await asked.says("acme~boss", "PATCH", adapter, json=switch) == (200, "")
    assert await asked.says("root", "DELETE", "/tenants/acme") == (409, "tenant_not_empty")


async def test_a_grant_is_given_and_withdrawn_by_the_adapters_owner(
    asked: Asked, make_adapter: AdapterMaker
) -> None:
    for tenant in ("acme", "other"):
        await asked.ask("root", "POST", "/tenants", json={"name": tenant})
        await asked.key(f"{tenant}~boss", Scope.ADMIN)
    body = {"source": str(make_adapter("one"))}
    await asked.ask("root", "POST", "/adapters/acme~bot/versions", json=body)
    grants = "/adapters/acme~bot/grants"
    assert await asked.says("other~boss", "GET", grants) == (404, "unknown_adapter")
    assert await asked.says("other~boss", "PUT", f"{grants}/other") == (404, "unknown_adapter")
    granted = await asked.ask("acme~boss", "PUT", f"{grants}/other")
    assert granted.json()["tenant"] == "other", granted.text
    assert await asked.says("other~boss", "GET", grants) == (403, "not_owner")
    assert (await asked.ask("acme~boss", "DELETE", f"{grants}/other")).status_code == 204
    assert (await asked.ask("acme~boss", "GET", grants)).json() == {"items": []}
    assert await asked.says("other~boss", "GET", grants) == (404, "unknown_adapter")


async def test_a_tenant_that_reuses_a_name_has_none_of_its_grants(
    asked: Asked, make_adapter: AdapterMaker
) -> None:
    for tenant in ("acme", "other"):
        await asked.ask("root", "POST", "/tenants", json={"name": tenant})
    body = {"source": str(make_adapter("one"))}
    await asked.ask("root", "POST", "/adapters/acme~bot/versions", json=body)
    assert (await asked.ask("root", "PUT", "/adapters/acme~bot/grants/other")).status_code == 200
    assert (await asked.ask("root", "DELETE", "/tenants/other")).status_code == 204
    await asked.ask("root", "POST", "/tenants", json={"name": "other"})
    await asked.key("other~boss", *Scope)
    assert await asked.says("other~boss", "GET", "/adapters/acme~bot") == (404, "unknown_adapter")
    assert (await asked.ask("root", "GET", "/adapters/acme~bot/grants")).json() == {"items": []}


# ---- what may not be seen is what does not exist -------------------------------------------------

MARKER = "zebra-7f3a"
NOBODY = "quagga-1b2c"
BODIES: dict[str, dict[str, object]] = {
    "PATCH /adapters/{name}": {"description": "x"},
    "PATCH /adapters/{name}/versions/{number}": {"description": "x"},
    "PUT /adapters/{name}/aliases/{alias}": {"version": 1},
    "POST /adapters/{name}/versions": {"source": "nowhere"},
    "POST /adapters/{name}/versions/{number}/quarantine": {"reason": "x", "code": "x"},
    "POST /keys": {"name": "acme~x", "scopes": ["infer"]},
    "POST /tenants": {"name": "new"},
    "POST /inspect": {"source": "nowhere"},
}


def _routes(app: FastAPI) -> list[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return [
        (method.upper(), path.removeprefix("/api/v1"))
        for path, item in paths.items()
        for method in item
        if path.startswith("/api/v1") and not path.endswith("/stream")
    ]


def _filled(path: str, adapter: str) -> str:
    given = {"name": adapter, "number": 1, "alias": "default", "tenant": "acme", "webhook": 1}
    return path.format_map({**given, "delivery": 1, "revision": 1})


async def _hidden(asked: Asked, source: str, stranger: str = "other") -> None:
    """An adapter of `acme` and everything about it; the stranger has a key for everything."""
    for tenant in ("acme", stranger):
        await asked.ask("root", "POST", "/tenants", json={"name": tenant})
    await asked.key("acme~boss", Scope.ADMIN)
    await asked.key(f"acme~{MARKER}", Scope.INFER)
    await asked.key(f"{stranger}~boss", *Scope)
    path = f"/adapters/acme~{MARKER}/versions"
    registered = await asked.ask(
        "root", "POST", path, json={"source": source, "description": MARKER, "tags": [MARKER]}
    )
    assert registered.status_code == 201, registered.text


@pytest.mark.parametrize("stranger", ["other", "ac", "acme-2"])
async def test_no_route_reveals_what_the_caller_may_not_see(
    asked: Asked, app: FastAPI, make_adapter: AdapterMaker, stranger: str
) -> None:
    """Nor to one whose name is the beginning of the other's, or begins with it."""
    await _hidden(asked, str(make_adapter("one")), stranger)
    routes = _routes(app)
    assert len(routes) > 25
    for method, path in routes:
        if path.startswith(("/keys/{name}", "/prompts/{name}")):
            continue  # keys are tested above; sets of prompts can have no such name
        answers = []
        for adapter in (f"acme~{MARKER}", f"acme~{NOBODY}"):
            response = await asked.ask(
                f"{stranger}~boss",
                method,
                _filled(path, adapter),
                json=BODIES.get(f"{method} {path}"),
            )
            answers.append((response.status_code, response.text.replace(adapter, "")))
        assert answers[0] == answers[1], (method, path)
        assert MARKER not in answers[0][1], (method, path)
        if "{name}" in path:
            assert answers[0][0] == 404, (method, path, answers)


async def test_lists_and_searches_hold_what_is_owned_or_granted(
    asked: Asked, make_adapter: AdapterMaker
) -> None:
    await _hidden(asked, str(make_adapter("one")))
    await asked.ask(
        "root", "POST", "/adapters/bot/versions", json={"source": str(make_adapter("two"))}
    )
    lists = ("/adapters", "/adapters?text=zebra", "/versions", f"/versions?tag={MARKER}")
    for path in lists:
        response = await asked.ask("other~boss", "GET", path)
        assert response.json()["items"] == [], (path, response.text)
    names = [a["name"] for a in (await asked.ask("acme~boss", "GET", "/adapters")).json()["items"]]
    assert names == [f"acme~{MARKER}"]
    await asked.ask("acme~boss", "PUT", f"/adapters/acme~{MARKER}/grants/other")
    for path in lists:
        items = (await asked.ask("other~boss", "GET", path)).json()["items"]
        assert len(items) == 1, path
        assert MARKER in str(items[0])
    await asked.ask("root", "POST", "/tenants", json={"name": "third"})
    await asked.key("third~boss", *Scope)
    own = f"/adapters/acme~{MARKER}"
    assert await asked.says("third~boss", "GET", own) == (404, "unknown_adapter")
    for path in lists:
        assert (await asked.ask("third~boss", "GET", path)).json()["items"] == [], path
    assert await asked.says("other~boss", "GET", f"/resolve?reference=acme~{MARKER}") == (200, "")
    assert await asked.says("other~boss", "PATCH", own, json={"owner": "me"}) == (403, "not_owner")


async def test_a_tenant_registers_in_its_namespace_from_its_own_folder(
    asked: Asked, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("one")
    await _hidden(asked, str(folder))
    path, body = "/adapters/other~bot/versions", {"source": str(folder)}
    refused = (403, "source_not_allowed")
    assert await asked.says("other~boss", "POST", path, json=body) == refused
    assert await asked.says("other~boss", "POST", "/inspect", json=body) == refused
    (folder.parent / "other").mkdir()
    own = folder.rename(folder.parent / "other" / "one")
    registered = await asked.ask("other~boss", "POST", path, json={"source": str(own)})
    assert registered.status_code == 201, registered.text
    assert registered.json()["created_by"] == "other~boss"
    for parent in (f"acme~{MARKER}:1", f"acme~{NOBODY}:1"):
        made_from = {"source": str(own), "parent": parent}
        answer = await asked.says("other~boss", "POST", path, json=made_from)
        assert answer == (404, "unknown_adapter"), parent
    for name in ("bot", "acme~bot", "nobody~bot", f"acme~{MARKER}"):
        foreign = f"/adapters/{name}/versions"
        answer = await asked.says("other~boss", "POST", foreign, json={"source": str(own)})
        assert answer == (404, "unknown_adapter"), name


async def test_a_tenant_has_so_many_valid_keys_at_most(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.auth.key_number.MAX_KEYS", 2)
    for tenant in ("acme", "other"):
        await asked.ask("root", "POST", "/tenants", json={"name": tenant})
    await asked.key("acme~boss", Scope.ADMIN)
    for name, says in (("two", (201, "")), ("three", (409, "too_many_keys"))):
        body = {"name": f"acme~{name}", "scopes": ["infer"]}
        assert await asked.says("acme~boss", "POST", "/keys", json=body) == says
    assert (await asked.ask("acme~boss", "DELETE", "/keys/acme~two")).is_success
    assert await asked.says("acme~boss", "POST", "/keys", json=body) == (201, "")
    for name in ("other~one", "platforms", "platforms-second"):
        body = {"name": name, "scopes": ["infer"]}
        assert await asked.says("root", "POST", "/keys", json=body) == (201, "")
