"""Scopes of every route as a table: whose key may ask what, and what is the platform's alone."""

import json
from pathlib import Path

import pytest

from registry.auth.scopes import EVERY_SCOPE, PUBLIC, Scope, rule_for

ROOT = Path(__file__).parents[3]
INFER, PUBLISH = frozenset({Scope.INFER}), frozenset({Scope.PUBLISH})
OPERATE, ADMIN = frozenset({Scope.OPERATE}), frozenset({Scope.ADMIN})
VERSION = "/api/v1/adapters/{name}/versions/{number}"

ANY_TENANTS = {
    PUBLIC: ["GET /healthz", "GET /readyz"],
    INFER: ["POST /generate", "POST /v1/fanout"],
    EVERY_SCOPE: [
        "GET /api/v1/adapters",
        "GET /api/v1/adapters/{name}",
        "GET /api/v1/adapters/{name}/aliases",
        "GET /api/v1/adapters/{name}/aliases/{alias}",
        "GET /api/v1/adapters/{name}/aliases/{alias}/history",
        "GET /api/v1/adapters/{name}/events",
        "GET /api/v1/adapters/{name}/names",
        "GET /api/v1/adapters/{name}/versions",
        f"GET {VERSION}",
        "GET /api/v1/jobs",
        "GET /api/v1/jobs/{number}",
        "GET /api/v1/overview",
        "GET /api/v1/prompts",
        "GET /api/v1/prompts/{name}",
        "GET /api/v1/resolve",
        "GET /api/v1/versions",
        "GET /api/v1/whoami",
    ],
    PUBLISH: [
        "PATCH /api/v1/adapters/{name}",
        "PUT /api/v1/adapters/{name}/aliases/{alias}",
        "DELETE /api/v1/adapters/{name}/aliases/{alias}",
        "POST /api/v1/adapters/{name}/aliases/{alias}/rollback",
        "PUT /api/v1/adapters/{name}/names",
        "DELETE /api/v1/adapters/{name}/names",
        "POST /api/v1/adapters/{name}/versions",
        f"PATCH {VERSION}",
        f"POST {VERSION}/deprecate",
        f"POST {VERSION}/recheck",
        f"POST {VERSION}/restore",
        f"POST {VERSION}/retire",
        "POST /api/v1/inspect",
        "POST /api/v1/jobs/cancel",
        "POST /api/v1/jobs/{number}/cancel",
    ],
    PUBLISH | OPERATE: [
        f"GET {VERSION}/files",
        f"POST {VERSION}/probe",
        "PUT /api/v1/prompts/{name}",
        "PATCH /api/v1/prompts/{name}",
        "DELETE /api/v1/prompts/{name}",
    ],
    OPERATE: [
        f"POST {VERSION}/purge",
        f"POST {VERSION}/quarantine",
        "GET /api/v1/cache",
        "GET /api/v1/cache/decisions",
        "POST /api/v1/cache/evict",
        "GET /api/v1/cache/history",
        "GET /api/v1/cache/history/decisions",
        "GET /api/v1/cache/history/state",
        "GET /api/v1/cache/pins",
        "POST /api/v1/cache/pins",
        "DELETE /api/v1/cache/pins/{reference}",
        "GET /api/v1/cache/policy",
        "POST /api/v1/cache/prefetch",
        "GET /api/v1/cache/servers",
        "GET /api/v1/cache/stream",
        "GET /api/v1/cache/why/{reference}",
        "GET /api/v1/events",
        "GET /api/v1/events/stream",
    ],
    ADMIN: [
        "GET /api/v1/adapters/{name}/grants",
        "PUT /api/v1/adapters/{name}/grants/{tenant}",
        "DELETE /api/v1/adapters/{name}/grants/{tenant}",
        "GET /api/v1/keys",
        "POST /api/v1/keys",
        "GET /api/v1/keys/{name}",
        "PATCH /api/v1/keys/{name}",
        "DELETE /api/v1/keys/{name}",
        "POST /api/v1/keys/{name}/rotate",
        "GET /api/v1/rates/keys",
        "GET /api/v1/rates/tenants",
        "GET /api/v1/tenants/{tenant}",
    ],
}
PLATFORMS = {
    OPERATE: [
        "GET /api/v1/bases",
        "GET /api/v1/cache/engine",
        "DELETE /api/v1/cache/servers/{name}",
        "GET /api/v1/cache/trace",
        "POST /api/v1/gc",
    ],
    ADMIN: [
        "POST /api/v1/bases/link",
        "POST /api/v1/bases/unlink",
        "GET /api/v1/events/export",
        "GET /api/v1/export",
        "POST /api/v1/import",
        "GET /api/v1/settings",
        "GET /api/v1/tenants",
        "POST /api/v1/tenants",
        "PATCH /api/v1/tenants/{tenant}",
        "DELETE /api/v1/tenants/{tenant}",
        "GET /api/v1/usage/tenants",
        "GET /api/v1/webhooks",
        "POST /api/v1/webhooks",
        "GET /api/v1/webhooks/{webhook}",
        "PATCH /api/v1/webhooks/{webhook}",
        "DELETE /api/v1/webhooks/{webhook}",
        "GET /api/v1/webhooks/{webhook}/deliveries",
        "POST /api/v1/webhooks/{webhook}/deliveries/{delivery}/retry",
        "POST /api/v1/webhooks/{webhook}/rotate-secret",
        "POST /api/v1/webhooks/{webhook}/test",
    ],
}


def test_every_documented_route_needs_what_the_table_says() -> None:
    """A new route is added here by whoever decides who may ask it."""
    document = json.loads((ROOT / "docs" / "openapi.json").read_text(encoding="utf-8"))
    found = {}
    for path, operations in document["paths"].items():
        for method in map(str.upper, operations):
            rule = rule_for(method, path.replace("{", "").replace("}", ""))
            found[f"{method} {path}"] = (sorted(rule.scopes), rule.platform)
    table = [(each, False) for each in ANY_TENANTS.items()]
    table += [(each, True) for each in PLATFORMS.items()]
    assert found == {
        operation: (sorted(scopes), platform)
        for (scopes, operations), platform in table
        for operation in operations
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/metrics"),
        ("GET", "/metrics/"),
        ("POST", "/metrics"),
        ("POST", "/healthz"),
        ("POST", "/docs"),
        ("POST", "/console/app.js"),
        ("POST", "/info"),
        ("GET", "/api/v1/unheard-of"),
        ("GET", "/api/v1/webhooks-of-mine"),
        ("GET", "/api/v1/exported"),
        ("DELETE", "/api/v1/settings"),
        ("POST", "/sleep"),
        ("POST", "/v1x"),
        ("GET", "/generated"),
        ("GET", "/healthz/more"),
        ("GET", "//api/v1/keys"),
    ],
)
def test_what_no_tenants_key_may_ask(method: str, path: str) -> None:
    rule = rule_for(method, path)
    assert rule.scopes in (OPERATE, ADMIN)
    assert rule.platform
