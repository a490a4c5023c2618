"""What stands before all routes, vLLM's too: who is it, from where, and may they?"""

from collections.abc import Callable, Sequence

from starlette.middleware import Middleware

from registry.auth.keys import KeyService
from registry.auth.refusal_log import RefusalLog
from registry.errors.access import KeyRefusal
from registry.http.authentication import AuthenticationMiddleware
from registry.http.csrf import CsrfMiddleware
from registry.http.trusted_proxies import ClientAddressMiddleware
from registry.settings import RegistrySettings


def guarding(
    settings: RegistrySettings,
    keys: KeyService,
    refused: Callable[[KeyRefusal], None],
    allowed_origins: Sequence[str],
) -> Sequence[Middleware]:
    """The outermost first. `allowed_origins` are vLLM's, for its answers' CORS headers."""
    guards = [
        Middleware(ClientAddressMiddleware, trusted=settings.trusted_proxies),
        Middleware(CsrfMiddleware, allowed=allowed_origins),
    ]
    if settings.require_keys:
        guards.append(
            Middleware(
                AuthenticationMiddleware,
                authenticate=keys.authenticate,
                refusals=RefusalLog(refused),
            )
        )
    return guards
