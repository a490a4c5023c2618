"""Telemetry of one server: its metrics, and traces if vLLM is given an OTLP endpoint."""

from argparse import Namespace
from collections.abc import Callable, Sequence

from opentelemetry import trace
from prometheus_client import REGISTRY, disable_created_metrics
from starlette.routing import Route

from engine.bootstrap.tenancy import TenantServices
from engine.errors import engine_codes
from engine.operations.probe import ProbeFailure
from engine.ports import Observer
from engine.settings import EngineSettings
from engine.telemetry.endpoint import create_metrics_route
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.spans import NullTracing, Tracing
from engine.telemetry.tracing import OtlpTracing
from engine.vllm import compat as vllm_compat
from registry.database.engine import Database
from registry.telemetry.gauges import RegistryGauges
from registry.telemetry.metrics import RegistryMetrics
from registry.telemetry.rate_gauges import RateGauges
from registry.version import adaptry_version


class Telemetry:
    """Metrics of the cache and of the registry; `tracing` makes the spans of requests.

    `observers` are notified after `cache`: tracing forgets a wait when it ends.
    """

    def __init__(self, arguments: Namespace, settings: EngineSettings) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs; else a third of all
        (model_name, *_) = arguments.served_model_name or [arguments.model]
        self.cache = CacheMetrics(
            model_name=model_name, max_adapter_labels=settings.max_adapter_labels
        )
        self.cache.set_build_info(adaptry_version(), vllm_compat.installed_version())
        self.registry = create_registry_metrics(settings)
        self.tracing: Tracing = NullTracing()
        self.observers: Sequence[Observer] = ()
        self._max_labels = settings.max_adapter_labels
        self._closing: list[Callable[[], None]] = [self.cache.close, self.registry.close]
        if arguments.otlp_traces_endpoint is not None:
            otlp = OtlpTracing(trace.get_tracer("adaptry"))
            self.tracing = otlp
            self.cache.link_exemplars(otlp.trace_id_of)
            self.observers = (otlp,)

    def create_registry_gauges(self, database: Database) -> RegistryGauges:
        """Gauges of what is in the registry, counted while their `run` runs."""
        state = RegistryGauges(database, self.cache.labels)
        self._closing.append(state.close)
        return state

    def add_rate_gauges(self, tenants: TenantServices) -> None:
        """Gauges of what tenants have used of their limits per minute."""
        gauges = create_rate_gauges(tenants, self._max_labels)
        self._closing.append(gauges.close)

    def metrics_route(self) -> Route:
        return create_metrics_route(REGISTRY, self.cache.freeze_gauges)

    def close(self) -> None:
        """Unregister all metrics, so that another server can be started in this process."""
        for close in self._closing:
            close()


def create_rate_gauges(tenants: TenantServices, max_labels: int) -> RateGauges:
    return RateGauges(tenants.windows, tenants.limits.rates, max_labels)


def create_registry_metrics(settings: EngineSettings) -> RegistryMetrics:
    """With the error codes of the engine beside the registry's own."""
    return RegistryMetrics(
        codes=engine_codes() | set(ProbeFailure), max_tenant_labels=settings.max_adapter_labels
    )
