"""Metric patches: vLLM's own metrics that are removed or registered again.

HTTP metrics: prometheus-fastapi-instrumentator registers its metrics when its middleware is built,
and counts nothing if they are registered already, by an earlier middleware stack or another server.

LoRA gauge: vLLM (0.26 to 0.33) exports the adapters of running requests, where routers want to know
which adapters are in memory. It creates one series for each combination that ever ran, so the page
and the memory grow without bound. The cache exports what is in memory under the same name.

Series that open proposals would add to vLLM are removed as well, should the installed one have
them: the cache exports them with its own values (`engine/telemetry/router_series.py`).
"""

from typing import Any

from prometheus_client import CollectorRegistry

from engine.telemetry.router_series import NAMES

_HTTP_PREFIXES = ("http_request", "http_response")


def unregister_http_metrics(registry: CollectorRegistry) -> None:
    """So that the middleware that is built next counts."""
    for collector, names in dict(registry._collector_to_names).items():
        if any(name.startswith(_HTTP_PREFIXES) for name in names):
            registry.unregister(collector)


def remove_lora_gauge(logger_manager: Any, registry: CollectorRegistry) -> None:
    """`logger_manager`: of vLLM's engine client; None if it logs no statistics."""
    _unregister(registry, frozenset({*NAMES, "vllm:lora_adapter_loaded"}))
    for logger in logger_manager.stat_loggers if logger_manager is not None else ():
        gauge = getattr(logger, "gauge_lora_info", None)
        if gauge is not None:
            registry.unregister(gauge)
            logger.gauge_lora_info = None


def _unregister(registry: CollectorRegistry, taken: frozenset[str]) -> None:
    for collector, names in dict(registry._collector_to_names).items():
        if not taken.isdisjoint(names):
            registry.unregister(collector)
