"""Caller of the current request, kept in a context variable."""

from collections.abc import Awaitable, Callable, Iterator, Set
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from registry.auth.rate_limits import RateLimits
from registry.auth.scopes import EVERY_SCOPE, Scope
from registry.errors import NotOwner, PlatformOnly, UnknownAdapter, UnknownKey, UnknownTenant
from registry.references import tenant_of


@dataclass(frozen=True, slots=True)
class Caller:
    """`name` is recorded as actor in events; a tenant's begins with the tenant's (`acme~app`).

    A caller without a tenant is the platform's and sees every adapter. `granted` are the adapters
    of others that its tenant may use.
    """

    name: str
    scopes: frozenset[Scope]
    granted: frozenset[str] = frozenset()
    rates: RateLimits | None = None  # its key's; None: no limit
    tenant: str | None = field(init=False, compare=False, repr=False)  # asked for several times

    def __post_init__(self) -> None:
        object.__setattr__(self, "tenant", tenant_of(self.name))

    def may(self, scopes: frozenset[Scope]) -> bool:
        """Whether it has one of these scopes."""
        return Scope.ADMIN in self.scopes or bool(self.scopes & scopes)

    @property
    def is_platform(self) -> bool:
        return self.tenant is None

    def owns(self, name: str) -> bool:
        """Whether it may change the adapter or key of this name, existing or not."""
        return self.tenant is None or tenant_of(name) == self.tenant

    def sees(self, adapter: str) -> bool:
        """Whether it may use the adapter and know that it exists."""
        return is_seen(adapter, self.tenant, self.granted)

    def check_sees(self, adapter: str) -> None:
        """Raises UnknownAdapter, as for one that does not exist."""
        if not self.sees(adapter):
            raise UnknownAdapter(adapter)

    def check_owns(self, adapter: str) -> None:
        """Raises UnknownAdapter if it can't see the adapter, NotOwner if it may only use it."""
        self.check_sees(adapter)
        if not self.owns(adapter):
            raise NotOwner(adapter)

    def check_key(self, name: str) -> None:
        """Raises UnknownKey for another tenant's key, as for one that does not exist."""
        if not self.owns(name):
            raise UnknownKey(name)

    def check_tenant(self, tenant: str) -> None:
        """Raises UnknownTenant for another tenant, as for one that does not exist."""
        if self.tenant not in (None, tenant):
            raise UnknownTenant(tenant)

    def check_platform(self) -> None:
        """Raises PlatformOnly."""
        if not self.is_platform:
            raise PlatformOnly


def is_seen(adapter: str, tenant: str | None, granted: Set[str]) -> bool:
    """Whether callers of a tenant with these grants, or of the platform, see the adapter."""
    return tenant is None or tenant_of(adapter) == tenant or adapter in granted


ANONYMOUS = Caller("api", EVERY_SCOPE)
"""The caller where no keys are required."""

Check = Callable[[], Awaitable[None]]
"""Raises RegistryError once the caller is no longer authorized."""


async def no_check() -> None:
    """Null check, where no keys are required."""


_check: ContextVar[Check] = ContextVar("adaptry_caller_check", default=no_check)
_caller: ContextVar[Caller] = ContextVar("adaptry_caller", default=ANONYMOUS)


@contextmanager
def as_caller(caller: Caller, check: Check = no_check) -> Iterator[None]:
    """Run the block as this caller."""
    tokens = _caller.set(caller), _check.set(check)
    try:
        yield
    finally:
        _caller.reset(tokens[0])
        _check.reset(tokens[1])


current_caller: Callable[[], Caller] = _caller.get
"""The caller of the current request: no function around it, as each request asks seven times."""


def current_check() -> Check:
    """Authorization check for responses that may outlast the caller's key."""
    return _check.get()


def actor_name() -> str:
    """The actor that the current request's changes are recorded with."""
    return _caller.get().name
