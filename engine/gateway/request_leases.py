"""Request leases: leases the adapter of an HTTP request for each of its engine requests."""

from collections.abc import Callable
from typing import Protocol

from engine.cache.controller import CacheController
from engine.errors import AdapterNotUsed, EngineUnavailable
from engine.gateway.request_context import RequestContext, current_request
from engine.gateway.shared_lease import Abort, SharedLease
from engine.gateway.tenant_accounts import NullTenantCounter, TenantAccounts, TenantCounter
from engine.telemetry.spans import NULL_SPANS
from engine.types import AdapterVersion, CacheOutcome, Lease, VersionId, WorkDone, WorkTotals
from registry.auth.caller import current_caller

_NO_COUNTER = NullTenantCounter()


class GenerationCounter(Protocol):
    def observe_first_token(self, outcome: CacheOutcome, seconds: float) -> None: ...
    def count_tokens(self, adapter: str, prompt: int, generation: int) -> None: ...
    def count_shared_prefix(self, adapter: str, tokens: int) -> None: ...


class AdmittedRequest:
    """One prompt for the base model. `request` None: not from an HTTP request."""

    def __init__(self, accounts: TenantAccounts, request: RequestContext | None = None) -> None:
        self._accounts = accounts
        self._request = request
        self._tenant = None if request is None else current_caller().tenant
        is_traced = request is not None and request.spans is not NULL_SPANS
        self._span = request.spans.generate_span() if request is not None and is_traced else None
        self.trace_headers = None if self._span is None else self._span.__enter__()
        if request is not None and request.work is None:
            request.work = WorkTotals()

    def on_end(self, work: WorkDone) -> None:
        if self._span is not None:
            self._span.__exit__(None, None, None)
        if self._request is not None and self._request.work is not None:
            self._request.work.add(work)
        if self._request is not None and self._request.rates is not None:
            self._request.rates.count("tokens", work.prompt_tokens + work.generated_tokens)
        if self._tenant is not None:
            self._accounts.count_tokens(self._tenant, work)

    def on_engine_death(self, error: EngineUnavailable) -> None:
        """Becomes the response, if none of it has been sent."""
        if self._request is not None:
            self._request.failure = error


class LeasedRequest(AdmittedRequest):
    """One prompt for an adapter. It holds its part of the lease until the engine's work ends."""

    def __init__(
        self,
        accounts: TenantAccounts,
        request: RequestContext,
        lease: Lease,
        release: Callable[[], None],
        counter: GenerationCounter,
    ) -> None:
        super().__init__(accounts, request)
        if self._tenant is not None:
            accounts.begin_lease(self._tenant, lease.version.id)
        self._arrived_at = request.arrived_at
        self._lease = lease
        self._release = release
        self._counter = counter

    def on_end(self, work: WorkDone) -> None:
        self._release()  # whatever the counters do
        super().on_end(work)
        if self._tenant is not None:
            self._accounts.end_lease(self._tenant, self._lease.version.id)
        lease, at = self._lease, work.first_token_at
        self._counter.count_tokens(lease.version.adapter, work.prompt_tokens, work.generated_tokens)
        if work.shared_prefix_tokens:
            self._counter.count_shared_prefix(lease.version.adapter, work.shared_prefix_tokens)
        if at is not None:
            self._counter.observe_first_token(lease.outcome, max(at - self._arrived_at, 0.0))


class RequestLeases:
    """Implements `engine.vllm.admission.port.RequestAdmission`."""

    def __init__(
        self,
        controller: CacheController,
        counter: GenerationCounter,
        tenants: TenantCounter = _NO_COUNTER,
    ) -> None:
        self._controller = controller
        self._counter = counter
        self._accounts = TenantAccounts(tenants)

    async def admit(self, requested: VersionId | None, abort: Abort) -> AdmittedRequest:
        """See the port. Only the version that was resolved may be requested."""
        request = current_request()
        if request is None:
            if requested is not None:
                raise RuntimeError("an adapter was requested without the gateway")
            return AdmittedRequest(self._accounts)
        version = None if request.asks_base else request.version
        if requested != (version.id if version is not None else None):
            request.failure = AdapterNotUsed(version.reference if version else str(requested))
            raise request.failure
        if version is None:
            request.is_admitted |= not request.asks_base
            return AdmittedRequest(self._accounts, request)
        lease, release = await self._lease(request, version, abort)
        request.is_admitted = True
        return LeasedRequest(self._accounts, request, lease, release, self._counter)

    async def _lease(
        self, request: RequestContext, version: AdapterVersion, abort: Abort
    ) -> tuple[Lease, Callable[[], None]]:
        if request.shared_lease is None:
            request.shared_lease = SharedLease(
                lambda revoke: self._controller.lease(version, revoke, request)
            )
        return await request.shared_lease.acquire(abort)
