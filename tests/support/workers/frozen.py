"""Garbage collector of vLLM in tests: what they had imported stays frozen.

vLLM freezes all there is once an engine has started, and at its end unfreezes all there is, also a
million objects that were imported before. The collections of that end and of the next start walked
through them, and copied their pages in a fork: six seconds of CPU for each engine.
"""

import gc
import sys
from typing import Any

OF_VLLM = (
    "vllm.distributed.parallel_state",
    "vllm.utils.gc_utils",
    "vllm.v1.engine.core",
    "vllm.v1.worker.gpu_worker",
)
"""Its modules that freeze all there is once an engine has started, or undo that at its end."""


class Collector:
    """The module `gc` for vLLM, which can't undo that others have frozen what they imported.

    `freezes`: else its own objects are not frozen either, as nothing would undo that.
    """

    def __init__(self, *, freezes: bool) -> None:
        self._freezes = freezes

    def __getattr__(self, name: str) -> Any:
        return getattr(gc, name)

    def freeze(self) -> None:
        if self._freezes:
            gc.freeze()

    def unfreeze(self) -> None:
        """Does nothing."""


def keep_frozen(*, ends_with_engine: bool) -> None:
    """In this process and its forks. `ends_with_engine`: it holds no second one after the first."""
    for name in OF_VLLM:
        if (module := sys.modules.get(name)) is not None:
            vars(module)["gc"] = Collector(freezes=ends_with_engine)
