"""Scopes of API keys, and the scope each route requires. A route without a rule needs `admin`."""

import re
from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """Permission of a key. `admin` allows everything; the others are independent."""

    INFER = "infer"  # use models and adapters, and look adapters up
    PUBLISH = "publish"  # register versions, describe them, move aliases, retire
    OPERATE = "operate"  # control the cache, quarantine, collect garbage; metrics, events
    ADMIN = "admin"  # keys, webhooks, import and export, and all of the above


EVERY_SCOPE = frozenset(Scope)


PUBLIC: frozenset[Scope] = frozenset()
"""No key required."""

_READ = frozenset({"GET", "HEAD"})
_INFER = frozenset({Scope.INFER})
_PUBLISH = frozenset({Scope.PUBLISH})
_OPERATE = frozenset({Scope.OPERATE})
_ADMIN = frozenset({Scope.ADMIN})


@dataclass(frozen=True, slots=True)
class Rule:
    """The first rule that matches path and method applies. `methods` empty: any.

    `platform`: a tenant's key is not sufficient.
    """

    path: re.Pattern[str]
    scopes: frozenset[Scope]
    methods: frozenset[str] = frozenset()
    platform: bool = False


def _rule(
    path: str,
    scopes: frozenset[Scope],
    methods: frozenset[str] = frozenset(),
    *,
    platform: bool = False,
) -> Rule:
    return Rule(re.compile(path), scopes, methods, platform)


_VERSION = r"/api/v1/adapters/[^/]+/versions/[^/]+"

RULES = (
    # for load balancers and browsers: no data of anyone
    _rule(r"/(healthz|readyz|health|ping|version)", PUBLIC, _READ),
    _rule(r"/(docs|redoc|openapi\.json)(/.*)?", PUBLIC, _READ),
    _rule(r"/(console(/.*)?)?", PUBLIC, _READ),
    # the cache and its telemetry
    _rule(r"/metrics/?", _OPERATE, _READ, platform=True),
    _rule(r"/api/v1/cache/engine", _OPERATE, _READ, platform=True),
    _rule(r"/api/v1/cache/trace", _OPERATE, _READ, platform=True),
    _rule(r"/api/v1/cache/servers", _OPERATE, _READ),
    _rule(r"/api/v1/cache/servers/.*", _OPERATE, platform=True),
    _rule(r"/api/v1/cache(/.*)?", _OPERATE),
    _rule(r"/api/v1/bases", _OPERATE, _READ, platform=True),
    _rule(r"/api/v1/bases/(link|unlink)", _ADMIN, platform=True),
    _rule(r"/api/v1/gc", _OPERATE, platform=True),
    _rule(rf"{_VERSION}/(quarantine|purge)", _OPERATE),
    _rule(rf"{_VERSION}/files", _OPERATE | _PUBLISH, _READ),
    _rule(rf"{_VERSION}/probe", _OPERATE | _PUBLISH),
    _rule(r"/api/v1/events/export", _ADMIN, _READ, platform=True),
    _rule(r"/api/v1/events(/.*)?", _OPERATE, _READ),
    # the registry
    _rule(r"/api/v1/webhooks(/.*)?", _ADMIN, platform=True),
    _rule(r"/api/v1/tenants/[^/]+", _ADMIN, _READ),
    _rule(r"/api/v1/tenants(/.*)?", _ADMIN, platform=True),
    _rule(r"/api/v1/keys(/.*)?", _ADMIN),
    _rule(r"/api/v1/whoami", EVERY_SCOPE, _READ),
    _rule(r"/api/v1/settings", _ADMIN, _READ, platform=True),
    _rule(r"/api/v1/prompts(/.*)?", EVERY_SCOPE, _READ),
    _rule(r"/api/v1/prompts/.*", _OPERATE | _PUBLISH),
    _rule(r"/api/v1/usage/tenants", _ADMIN, platform=True),
    _rule(r"/api/v1/rates/(keys|tenants)", _ADMIN, _READ),
    _rule(r"/api/v1/adapters/[^/]+/grants(/.*)?", _ADMIN),
    _rule(r"/api/v1/(export|import)(/.*)?", _ADMIN, platform=True),
    _rule(r"/api/v1/(adapters|overview|versions|resolve|jobs|search)(/.*)?", EVERY_SCOPE, _READ),
    _rule(r"/api/v1/(adapters|jobs|uploads|inspect)(/.*)?", _PUBLISH),
    _rule(r"/api/.*", _ADMIN, platform=True),
    # vLLM's own
    _rule(r"/v1/(un)?load_lora_adapter", _PUBLISH),
    _rule(r"/adapters(/.*)?", _PUBLISH),
    _rule(r"/v1/loras(/.*)?", _PUBLISH, frozenset({"POST", "DELETE"})),
    _rule(r"/v1/.*", _INFER),
    _rule(r"/(generate|tokenize|detokenize|pooling|classify|score|rerank|v2/rerank)", _INFER),
    _rule(r"/(invocations|inference/v1/generate)", _INFER),
    _rule(r"/(generate_stream)?", _INFER),
    _rule(r"/info", _INFER, _READ),
)


_DEFAULT_RULE = _rule(r".*", _ADMIN, platform=True)


def rule_for(method: str, path: str) -> Rule:
    """The rule for a request; without scopes no key is required."""
    for rule in RULES:
        if rule.path.fullmatch(path) and (not rule.methods or method in rule.methods):
            return rule
    return _DEFAULT_RULE


def scopes_for(method: str, path: str) -> frozenset[Scope]:
    """The scopes of which a request needs one; empty: no key required."""
    return rule_for(method, path).scopes
