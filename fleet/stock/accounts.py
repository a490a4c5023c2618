"""Accounts: tokens and slot time of the requests to a stock server, by adapter, tenant and rate."""

from collections.abc import Callable
from typing import Protocol

from starlette.types import Receive, Scope

from engine.cache.lease import LeaseContext
from engine.gateway.tenant_accounts import NullTenantCounter, TenantAccounts, TenantCounter
from engine.types import AdapterVersion, Lease
from fleet.stock.usage import AnswerUsage
from registry.auth.caller import current_caller
from registry.http.leaving_client import while_connected
from registry.http.rate_limits import request_rates


class TokenCounter(Protocol):
    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None: ...


_NO_TENANTS = NullTenantCounter()


async def acquire_unless_left(context: LeaseContext, receive: Receive) -> Lease | None:
    """None if the client left first: then it keeps no place in the queue."""
    if context.is_immediate():
        return await context.acquire()
    return await while_connected(receive, context.acquire())


class StockAccounts:
    """Of the current request's caller."""

    def __init__(self, counter: TokenCounter, tenants: TenantCounter = _NO_TENANTS) -> None:
        self._counter = counter
        self._tenants = TenantAccounts(tenants)

    def count(self, scope: Scope, usage: AnswerUsage, version: AdapterVersion | None) -> None:
        """At the end of the answer; of the base model without a version."""
        work, tenant, rates = usage.work(), current_caller().tenant, request_rates(scope)
        if rates is not None:
            rates.count("tokens", 0)  # the estimate is given back where nothing was generated
        if work is None:
            return
        prompt, generated = work.prompt_tokens, work.generated_tokens
        if rates is not None:
            rates.count("tokens", prompt + generated)
        if tenant is not None:
            self._tenants.count_tokens(tenant, work)
        if version is not None:
            self._counter.count_tokens(version.adapter, prompt, generated)

    def lease(self, version: AdapterVersion, release: Callable[[], None]) -> Callable[[], None]:
        """`release`, which counts the time of the lease when it is called first."""
        tenant = current_caller().tenant
        if tenant is None:
            return release
        self._tenants.begin_lease(tenant, version.id)
        is_released = False

        def release_and_count() -> None:
            nonlocal is_released
            release()
            if not is_released:
                is_released = True
                self._tenants.end_lease(tenant, version.id)

        return release_and_count
