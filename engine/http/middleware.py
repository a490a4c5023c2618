"""Middleware before all routes: client address, cross-origin, API keys, body limits."""

from collections.abc import Callable, Sequence

from starlette.middleware import Middleware

from engine.http.body_limits import create_body_limit
from engine.settings import EngineSettings
from registry.auth.keys import KeyService
from registry.auth.refusal_log import RefusalLog
from registry.errors.access import KeyRefusal
from registry.http.authentication import AuthenticationMiddleware
from registry.http.csrf import CsrfMiddleware
from registry.http.trusted_proxies import ClientAddressMiddleware
from registry.settings import RegistrySettings


def create_guards(
    settings: EngineSettings,
    registry_settings: RegistrySettings,
    keys: KeyService,
    refused: Callable[[KeyRefusal], None],
    allowed_origins: Sequence[str],
) -> list[Middleware]:
    """The outermost first. `allowed_origins`: vLLM's, for the CORS headers of its responses."""
    guards = [
        Middleware(ClientAddressMiddleware, trusted=registry_settings.trusted_proxies),
        Middleware(CsrfMiddleware, allowed=allowed_origins),
    ]
    if registry_settings.require_keys:
        guards.append(
            Middleware(
                AuthenticationMiddleware,
                authenticate=keys.authenticate,
                refusals=RefusalLog(refused),
            )
        )
    return [*guards, create_body_limit(settings, registry_settings)]
