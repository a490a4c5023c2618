"""Middleware before all routes: client address, cross-origin, API keys, rates, body limits."""

from collections.abc import Callable, Sequence

from starlette.middleware import Middleware

from engine.http.body_limits import create_body_limit
from engine.settings import EngineSettings
from registry.auth.keys import KeyService
from registry.auth.refusal_log import RefusalLog
from registry.errors.access import KeyRefusal
from registry.http.authentication import AuthenticationMiddleware
from registry.http.csrf import CsrfMiddleware
from registry.http.rate_limits import AddressLimitMiddleware, RateLimitMiddleware
from registry.http.trusted_proxies import ClientAddressMiddleware
from registry.http.unexpected_errors import UnexpectedErrorMiddleware
from registry.rates.caller_rates import CallerRates
from registry.rates.windows import RateWindows
from registry.settings import RegistrySettings


def create_guards(
    settings: EngineSettings,
    registry_settings: RegistrySettings,
    keys: KeyService,
    refused: Callable[[KeyRefusal], None],
    allowed_origins: Sequence[str],
    *,
    rates: CallerRates | None,
) -> list[Middleware]:
    """The outermost first. `allowed_origins`: vLLM's, for the CORS headers of its responses.

    `rates` None: an ingress limits them, and sees the clients' addresses.
    """
    guards = [Middleware(ClientAddressMiddleware, trusted=registry_settings.trusted_proxies)]
    most = registry_settings.address_requests_per_minute
    if most is not None and rates is not None:
        guards.append(
            Middleware(AddressLimitMiddleware, windows=RateWindows(), most_per_minute=most)
        )
    guards.append(Middleware(CsrfMiddleware, allowed=allowed_origins))
    guards.append(Middleware(UnexpectedErrorMiddleware))
    if registry_settings.require_keys:
        guards.append(
            Middleware(
                AuthenticationMiddleware,
                authenticate=keys.authenticate,
                refusals=RefusalLog(refused),
            )
        )
        if rates is not None:
            guards.append(Middleware(RateLimitMiddleware, rates=rates))
    return [*guards, create_body_limit(settings, registry_settings, is_replica=rates is None)]
