"""Data plane: a vLLM engine, and the controller that decides which adapters are in memory.

`from engine import LLM, SamplingParams` is vLLM's offline interface with our cache.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vllm import SamplingParams

    from engine.offline.llm import LLM

__all__ = ["LLM", "SamplingParams"]


def __getattr__(name: str) -> Any:
    """Imported on first use: importing vLLM takes seconds."""
    if name in __all__:
        from engine.unfit_packages import hide_unfit_packages  # noqa: PLC0415

        hide_unfit_packages()
    if name == "LLM":
        from engine.offline.llm import LLM  # noqa: PLC0415

        return LLM
    if name == "SamplingParams":
        from vllm import SamplingParams  # noqa: PLC0415

        return SamplingParams
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
