"""Frozen imports: no end of an engine makes the garbage collector walk through them again."""

import gc
import importlib
import inspect
import sys
from types import ModuleType

import pytest
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory
from vllm.utils.gc_utils import freeze_gc_heap

from tests.support.servers.forked_server import VLLM
from tests.support.workers.frozen import OF_VLLM, keep_frozen


@pytest.mark.parametrize("ends_with_engine", [True, False])
def test_the_end_of_an_engine_unfreezes_nothing(
    monkeypatch: pytest.MonkeyPatch, ends_with_engine: bool
) -> None:
    for name in OF_VLLM:
        module = importlib.import_module(name)
        monkeypatch.setattr(module, "gc", vars(module)["gc"])
    keep_frozen(ends_with_engine=ends_with_engine)
    gc.freeze()
    before = gc.get_freeze_count()
    kept = [[number] for number in range(20_000)]
    freeze_gc_heap()
    more = gc.get_freeze_count() - before  # fewer by each frozen object that has been freed
    assert (more > len(kept) / 2) == ends_with_engine, "else what it leaves is never collected"
    cleanup_dist_env_and_memory()
    assert gc.get_freeze_count() > before / 2, "it would be 0"


def test_modules_of_an_engine_that_unfreeze_are_known() -> None:
    for name in VLLM:
        importlib.import_module(name)
    users = {
        name
        for name, found in sys.modules.items()
        if name.startswith("vllm.") and hasattr(found, "gc") and _unfreezes(found)
    }
    assert users <= set(OF_VLLM)


def _unfreezes(module: ModuleType) -> bool:
    return ".unfreeze()" in inspect.getsource(module)
