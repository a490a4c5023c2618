"""Tenancy of one server: tenants' limits, what they have in flight, their grants and quotas."""

from collections.abc import Callable
from functools import partial

from engine.cache.tenant_limits import TenantCacheUsage
from engine.cache.tenant_memory import Tenancy
from engine.gateway.in_flight import RequestsInFlight
from registry.auth.caller import current_caller
from registry.database.engine import Database
from registry.quotas.limit_cache import LimitCache
from registry.quotas.limit_queries import all_limits, read_limits
from registry.quotas.limits import RefusalObserver
from registry.quotas.service import TenantQuotas
from registry.quotas.usage import LiveUsage
from registry.rates.caller_rates import CallerRates
from registry.rates.windows import RateWindows
from registry.references import tenant_of
from registry.tenants.live_grants import LiveGrants
from registry.tenants.service import TenantService


class TenantServices:
    """`limits` has to be refreshed once before the server serves, and to `run` while it does."""

    def __init__(self, database: Database, refused: RefusalObserver, windows: RateWindows) -> None:
        self._database = database
        self.limits = LimitCache(partial(all_limits, database), database.seen_commits())
        limits_of = self.limits.limits_of
        self.tenancy = Tenancy(tenant_of, limits_of, refused)
        self.in_flight = RequestsInFlight(lambda: current_caller().tenant, limits_of, refused)
        self.windows = windows
        self.rates = CallerRates(windows, limits_of, refused)
        self.grants = LiveGrants(database)
        self.quotas = TenantQuotas(database, tenant_of, read_limits, refused)

    def create_service(self, usage_of: Callable[[str], TenantCacheUsage]) -> TenantService:
        """`usage_of`: a tenant's use of the cache. Changed limits hold here immediately."""

        def live(tenant: str) -> LiveUsage:
            used = usage_of(tenant)
            in_flight = self.in_flight.of(tenant)
            return LiveUsage(in_flight, used.slots, used.host_bytes, used.pins)

        return TenantService(self._database, live=live, changed=self.limits.refresh)
