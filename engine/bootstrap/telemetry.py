"""Who watches one server: its series, and its traces where vLLM is given an OTLP endpoint."""

from argparse import Namespace
from collections.abc import Callable, Sequence

from opentelemetry import trace
from prometheus_client import REGISTRY, disable_created_metrics
from starlette.routing import Route

from engine.errors import engine_codes
from engine.operations.probe import ProbeFailure
from engine.ports import Observer
from engine.settings import EngineSettings
from engine.telemetry.endpoint import create_metrics_route
from engine.telemetry.metrics import CacheMetrics
from engine.telemetry.spans import NullTracing, Tracing
from engine.telemetry.tracing import OtlpTracing
from engine.vllm import compat as vllm_api
from registry.database.engine import Database
from registry.telemetry.gauges import RegistryState
from registry.telemetry.metrics import RegistryMetrics
from registry.version import adaptry_version


class Observing:
    """`tracing` makes the spans of requests; `observers` and `cache` have to hear of the cache.

    The latter first: a wait that has ended is forgotten by those who trace it.
    """

    def __init__(self, arguments: Namespace, settings: EngineSettings) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # theirs; else a third of all
        self.cache = CacheMetrics(max_adapter_labels=settings.max_adapter_labels)
        self.cache.set_build_info(adaptry_version(), vllm_api.installed_version())
        self.registry = RegistryMetrics(
            codes=engine_codes() | set(ProbeFailure), max_tenant_labels=settings.max_adapter_labels
        )
        self.tracing: Tracing = NullTracing()
        self.observers: Sequence[Observer] = ()
        self._closing: list[Callable[[], None]] = [self.cache.close, self.registry.close]
        if arguments.otlp_traces_endpoint is not None:
            traced = OtlpTracing(trace.get_tracer("adaptry"))
            self.tracing = traced
            self.cache.link_exemplars(traced.trace_id_of)
            self.observers = (traced,)

    def count(self, database: Database) -> RegistryState:
        """Export what is in the registry, as far as it is counted: somebody has to `run` it."""
        state = RegistryState(database, self.cache.labels)
        self._closing.append(state.close)
        return state

    def metrics_route(self) -> Route:
        return create_metrics_route(REGISTRY, self.cache.freeze_gauges)

    def close(self) -> None:
        """Take every series off again, so that another server can be started."""
        for close in self._closing:
            close()
