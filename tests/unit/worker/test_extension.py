"""Worker extension: moves between the tiers, over vLLM's own managers, and its connection."""

import socket
import sys
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from vllm.lora.lora_model import LoRAModel
from vllm.lora.model_manager import AdapterLRUCache
from vllm.v1.worker.lora_model_runner_mixin import LoRAModelRunnerMixin

from engine.worker.arena import HostArena
from engine.worker.extension import AdapterCacheExtension
from engine.worker.lora_managers import ControlledModelManager, ControlledWorkerManager

SLOTS, PLACES = 2, 3


class Runner(LoRAModelRunnerMixin):  # type: ignore[misc]  # vLLM is untyped here
    def __init__(self, manager: Any) -> None:
        self.lora_manager = manager


class Worker(AdapterCacheExtension):
    """A worker whose model has no layers."""

    def __init__(self) -> None:
        self.tiers: Any = ControlledModelManager.__new__(ControlledModelManager)
        self.tiers._registered_adapters = AdapterLRUCache(PLACES, self.tiers.deactivate_adapter)
        self.tiers._active_adapters = AdapterLRUCache(SLOTS, self.tiers._deactivate_adapter)
        self.tiers.lora_index_to_id = [None] * SLOTS
        self.tiers.lora_config = SimpleNamespace(max_loras=SLOTS, max_cpu_loras=PLACES)
        self.tiers.modules = {}
        manager: Any = ControlledWorkerManager.__new__(ControlledWorkerManager)
        manager._adapter_manager = self.tiers
        self.model_runner = Runner(manager)

    def stage(self, number: int, lora_id: int) -> None:
        load: Future[Any] = Future()
        load.set_result(LoRAModel(lora_id, 1, {}))
        self._adaptry_staging()._loads[number] = load

    def apply(self, *moves: tuple[str, int, int]) -> list[tuple[str | None, int | None]]:
        """Error and slot of each."""
        answer = self.adaptry_apply([list(move) for move in moves])
        assert all(seconds >= 0 for seconds, _, _ in answer["value"])
        return [(error, slot) for _, error, slot in answer["value"]]

    def bring_in(self, *lora_ids: int) -> None:
        for lora_id in lora_ids:
            self.stage(lora_id, lora_id)
            assert self.apply(("commit", lora_id, lora_id)) == [(None, None)]


@pytest.fixture
def worker() -> Worker:
    return Worker()


def test_moves_say_which_slot_and_what_went_wrong(worker: Worker) -> None:
    for number in range(1, 6):
        worker.stage(number, number)
    assert worker.apply(
        ("commit", 1, 1),
        ("commit", 2, 2),
        ("commit", 3, 3),
        ("commit", 4, 4),
        ("commit", 1, 5),
        ("commit", 9, 9),
        ("activate", 1, 0),
        ("activate", 2, 0),
        ("activate", 3, 0),
        ("activate", 1, 0),
        ("activate", 9, 0),
        ("deactivate", 3, 0),
        ("deactivate", 1, 0),
        ("activate", 3, 0),
        ("evict", 2, 0),
        ("evict", 2, 0),
        ("rename", 2, 0),
    ) == [
        *[(None, None)] * 3,
        ("RuntimeError: the host tier is full", None),
        ("RuntimeError: is in the host tier already", None),
        ("KeyError: 9", None),
        (None, 0),
        (None, 1),
        ("RuntimeError: no free slot", None),
        ("RuntimeError: is in a slot already", None),
        ("RuntimeError: not in the host tier", None),
        ("RuntimeError: was in no slot", None),
        (None, None),
        (None, 0),
        (None, None),
        ("RuntimeError: was not in the host tier", None),
        ("ValueError: unknown move 'rename'", None),
    ]
    state = worker.adaptry_state()["value"]
    assert (state["gpu"], state["host"]) == ([3], [1, 3])
    assert worker.tiers.lora_index_to_id == [3, None]
    assert worker._adaptry_staging()._loads == {}, "a commit takes its load, whatever comes of it"


def test_an_adapter_that_vllm_loaded_on_its_own_can_be_moved_too(worker: Worker) -> None:
    """The controller adopts what it finds in the engine."""
    worker.tiers._registered_adapters[7] = LoRAModel(7, 1, {})
    moves = (("activate", 7, 0), ("deactivate", 7, 0), ("activate", 7, 0), ("evict", 7, 0))
    assert worker.apply(*moves) == [(None, 0), (None, None), (None, 0), (None, None)]


def test_after_moves_vllm_evicts_by_itself_again(worker: Worker) -> None:
    """A step that asks for one more adapter must not fail."""
    worker.bring_in(1, 2, 3)
    assert worker.apply(("activate", 1, 0), ("activate", 2, 0)) == [(None, 0), (None, 1)]
    assert worker.tiers.activate_adapter(3)
    assert list(worker.tiers._active_adapters.order) == [2, 3]


def test_the_truth_has_what_vllm_loaded_within_steps(worker: Worker) -> None:
    worker.bring_in(4, 5)
    worker.model_runner.lora_manager.adaptry_in_step_loads = 6
    worker._adaptry_staging().reader.untraceable = 2
    assert worker.adaptry_state()["value"] == {
        "gpu": [],
        "host": [4, 5],
        "size_bytes": [[4, 0], [5, 0]],
        "in_step_loads": 6,
        "untraceable_loads": 2,
        "arena_bytes": 0,
    }


def test_a_call_that_fails_is_answered(worker: Worker) -> None:
    """An exception would leave the other ranks' answers for the next call."""
    del worker.tiers._active_adapters
    assert worker.adaptry_state() == {
        "error": "AttributeError: 'ControlledModelManager' object has no attribute "
        "'_active_adapters'"
    }
    assert "error" in worker.adaptry_apply([["evict"]])
    assert not worker.tiers.adaptry_moving


def test_an_adapter_that_vllm_copied_in_part_is_in_no_slot(worker: Worker) -> None:
    """The next request for it would be answered by a half of it."""

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes differ")

    worker.bring_in(1)
    worker.tiers.is_pooling_model = False
    worker.tiers.modules = {"q": SimpleNamespace(set_lora=fail)}
    weights = SimpleNamespace(lora_a=torch.zeros(1), lora_b=torch.zeros(1))
    worker.tiers._registered_adapters[1].loras = {"q": weights}
    assert worker.apply(("activate", 1, 0)) == [("RuntimeError: shapes differ", None)]
    state = worker.adaptry_state()["value"]
    assert (state["gpu"], state["host"]) == ([], [1])
    assert worker.tiers.lora_index_to_id == [None, None]


# ---- the connection ------------------------------------------------------------------------


def connect(worker: Worker, folder: Path) -> dict[str, Any]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/loads")
        server.listen()
        answer: dict[str, Any] = worker.adaptry_connect(f"{folder}/loads", None)
    return answer


def configured(executor: str) -> Any:
    parallel = SimpleNamespace(world_size=1, distributed_executor_backend=executor)
    model = SimpleNamespace(
        runner_type="generate", is_hybrid=False, is_attention_free=False, is_encoder_decoder=False
    )
    return SimpleNamespace(
        parallel_config=parallel,
        model_config=model,
        lora_config=SimpleNamespace(),
        speculative_config=None,
        kv_transfer_config=None,
    )


@pytest.mark.parametrize(("executor", "is_masked"), [("uni", True), ("mp", False)])
def test_a_connected_worker_masks_batches_where_activated_adapters_are_served(
    worker: Worker, tmp_path: Path, executor: str, *, is_masked: bool
) -> None:
    worker.vllm_config = configured(executor)
    state = SimpleNamespace(make_lora_inputs=test_moves_say_which_slot_and_what_went_wrong)
    worker.model_runner.lora_state, worker.model_runner.req_states = state, SimpleNamespace()
    before = sys.getswitchinterval()
    try:
        assert connect(worker, tmp_path) == {"value": None}
        assert sys.getswitchinterval() < 0.001, "a load waits no longer for the step loop's thread"
    finally:
        sys.setswitchinterval(before)
    assert (state.make_lora_inputs.__name__ == "make_masked") == is_masked
    described = worker.adaptry_modules()["error"]
    assert "packed_modules" in described or "model" in described, "there is no model here"


def test_memory_is_reserved_and_kernels_are_compiled_before_the_first_load(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HostArena, "is_pinned", True)
    layer = SimpleNamespace(lora_a_stacked=(torch.zeros(SLOTS, 1, 8, 4096),), lora_b_stacked=())
    warmed: list[tuple[Any, int]] = []
    worker.tiers.modules = {"q": layer}
    worker.tiers.adaptry_slot_writer = SimpleNamespace(warm=lambda *of: warmed.append(of))
    worker.vllm_config = configured("mp")
    before = sys.getswitchinterval()
    try:
        assert connect(worker, tmp_path) == {"value": None}
    finally:
        sys.setswitchinterval(before)
    assert worker._adaptry_staging().arena.allocated_bytes >= PLACES * 8 * 4096 * 4
    assert warmed == [(torch.float32, 8 * 4096 * 4)]
