"""vLLM's gauge of the adapters that run, taken off: the cache tells under its name what is so.

vLLM (0.26 to 0.33) shows the adapters of running requests, where routers want to know which are in
memory, and makes one series of each combination that ever was, so that the page and the memory
grow without end.
"""

from typing import Any

from prometheus_client import CollectorRegistry


def take_running_sets_off(logger_manager: Any, registry: CollectorRegistry) -> None:
    """Of vLLM's engine client; None where it logs no statistics."""
    for logger in logger_manager.stat_loggers if logger_manager is not None else ():
        gauge = getattr(logger, "gauge_lora_info", None)
        if gauge is not None:
            registry.unregister(gauge)
            logger.gauge_lora_info = None
