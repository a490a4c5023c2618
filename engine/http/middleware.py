"""What stands before all routes, vLLM's too: who is it, from where, and may they?"""

from collections.abc import Callable, Sequence

from starlette.middleware import Middleware

from registry.auth.keys import KeyService
from registry.auth.refusal_log import KeyRefusals
from registry.errors.access import KeyRefusal
from registry.http.authentication import KeyGuard
from registry.http.csrf import CrossOriginGuard
from registry.http.trusted_proxies import AddressNoter
from registry.settings import RegistrySettings


def guarding(
    settings: RegistrySettings,
    keys: KeyService,
    refused: Callable[[KeyRefusal], None],
    allowed_origins: Sequence[str],
) -> Sequence[Middleware]:
    """The outermost first. `allowed_origins` are vLLM's, for its answers' CORS headers."""
    guards = [
        Middleware(AddressNoter, trusted=settings.trusted_proxies),
        Middleware(CrossOriginGuard, allowed=allowed_origins),
    ]
    if settings.require_keys:
        guards.append(Middleware(KeyGuard, recognise=keys.caller, refusals=KeyRefusals(refused)))
    return guards
