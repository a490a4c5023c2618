"""vLLM's gauge of the adapters that run and wait, kept to what is so now.

vLLM (0.26 to 0.33) makes one series of each combination that ever was, and removes none: with many
adapters the page and the memory grow without end.
"""

from typing import Any


class NewestSet:
    """In the gauge's place; each new combination takes the place of the last."""

    def __init__(self, gauge: Any) -> None:
        self._gauge = gauge
        self._shown: dict[str, Any] | None = None

    def labels(self, **labels: Any) -> Any:
        series = self._gauge.labels(**labels)
        if self._shown is not None and self._shown != labels:
            self._gauge.remove_by_labels(self._shown)
        self._shown = labels
        return series


def show_newest_set(logger_manager: Any) -> None:
    """Of vLLM's engine client; None where it logs no statistics."""
    for logger in logger_manager.stat_loggers if logger_manager is not None else ():
        gauge = getattr(logger, "gauge_lora_info", None)
        if gauge is not None:
            logger.gauge_lora_info = NewestSet(gauge)
