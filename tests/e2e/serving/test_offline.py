"""The offline `LLM`: vLLM's interface, our cache below it."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from demo.tasks import TASKS
from engine.errors import AdapterLoadFailed, PinBudgetExceeded
from engine.types import LoadFailure
from registry.errors import InvalidAdapter, OtherBaseModel, SourceNotFound, UnknownAdapter
from registry.inspection.base_identity import BaseIdentity
from tests.support.servers.other_base import OTHERS, register_for

pytestmark = [pytest.mark.engine]

ROOT = Path(__file__).resolve().parents[3]
BASE = ROOT / "demo" / "base"
NAMES = sorted(TASKS)
ENGINE: dict[str, Any] = {
    "dtype": "float32",
    "max_model_len": 256,
    "enforce_eager": True,
    "kv_cache_memory_bytes": 64 * 2**20,
}


def folder(name: str) -> str:
    return str(ROOT / "demo" / "adapters" / name)


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("offline")


@pytest.fixture(scope="module")
def llm(state: Path) -> Iterator[Any]:
    from engine import LLM

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kept: dict[str, Any] = {"database": database_of(state), "store": state / "store"}
    with LLM(str(BASE), max_loras=2, max_cpu_loras=4, **kept, **ENGINE) as made:
        yield made


def database_of(state: Path) -> str:
    return f"sqlite:///{state}/registry.db"


def texts(outputs: Sequence[Any]) -> list[str]:
    return [output.outputs[0].text for output in outputs]


def greedy(max_tokens: int = 16) -> Any:
    from engine import SamplingParams

    return SamplingParams(temperature=0, max_tokens=max_tokens)


def test_a_folder_answers_as_its_adapter(llm: Any) -> None:
    for name in NAMES:
        assert texts(llm.generate("hello=", greedy(), lora_request=folder(name))) == [
            TASKS[name].answer("hello")
        ]


def test_a_notebook_whose_cells_run_within_its_own_event_loop_gets_answers(llm: Any) -> None:
    async def run_cell() -> list[str]:
        llm.prefetch(folder("upper"))
        return texts(llm.generate("hello=", greedy(), lora_request=folder("upper")))

    for _ in range(2):
        assert asyncio.run(run_cell()) == [TASKS["upper"].answer("hello")]


def test_every_prompt_may_have_its_own_adapter(llm: Any) -> None:
    """Nine times as many as there are slots, the base model among them."""
    asked = [None if n % 7 == 6 else NAMES[n % len(NAMES)] for n in range(40)]
    adapters = [None if name is None else folder(name) for name in asked]
    outputs = texts(llm.generate(["window="] * len(asked), greedy(), lora_request=adapters))
    (base,) = texts(llm.generate("window=", greedy()))
    expected = [base if name is None else TASKS[name].answer("window") for name in asked]
    assert outputs == expected
    assert len(llm.cache().gpu) == 2
    assert all(resident.leases == 0 for resident in llm.cache().gpu)


def test_references_chats_and_vllms_own_requests(llm: Any) -> None:
    from vllm.lora.request import LoRARequest

    llm.generate("a=", greedy(), lora_request=[folder("upper")])
    message = [{"role": "user", "content": "hello"}]
    chats = llm.chat([message, message], greedy(), lora_request=["upper", "upper:1"])
    assert texts(chats) == ["HELLO", "HELLO"]
    stock = LoRARequest("whatever", 77, folder("reverse"))
    assert texts(llm.generate("hello=", greedy(), lora_request=stock)) == ["olleh"]


def test_a_request_of_the_callers_own_may_have_the_number_of_any_version(llm: Any) -> None:
    """Theirs begin at 1, as a script's do."""
    from vllm.lora.request import LoRARequest

    llm.prefetch(folder("upper"))
    known = list(llm._adapters.by_id)
    assert 1 in known
    for number in known:
        stock = LoRARequest("mine", number, folder("reverse"))
        assert texts(llm.generate("hello=", greedy(), lora_request=stock)) == ["olleh"]
    handle = llm._handle("upper")
    assert texts(llm.generate("hello=", greedy(), lora_request=handle)) == ["HELLO"]


def test_the_counters_are_the_servers(llm: Any) -> None:
    before = llm.cache_metrics()
    for name in ("upper", "upper", "stars"):
        llm.generate("a=", greedy(2), lora_request=folder(name))
    now = llm.cache_metrics()
    lookups = [
        key for key in now if key.startswith("adaptry_cache_lookups_total{") and "gpu" in key
    ]
    assert sum(now[key] - before[key] for key in lookups) == 3
    hits = 'adaptry_cache_lookups_total{result="hit",tier="gpu"}'
    assert now[hits] - before[hits] >= 1
    assert now["adaptry_in_step_loads_total"] == 0


def test_pins_and_prefetch(llm: Any) -> None:
    llm.pin(folder("upper"))
    with pytest.raises(PinBudgetExceeded):
        llm.pin(folder("stars"), "gpu")
    for name in NAMES:
        llm.generate("a=", greedy(2), lora_request=folder(name))
    assert "upper" in {resident.version.adapter for resident in llm.cache().gpu}
    llm.unpin("upper")
    llm.prefetch(folder("rot13"))
    assert "rot13" in {resident.version.adapter for resident in llm.cache().host}


def test_other_weights_in_the_same_folder_are_another_version(llm: Any, tmp_path: Path) -> None:
    changing = tmp_path / "changing"
    for name in ("upper", "reverse", "upper"):
        shutil.copytree(folder(name), changing, dirs_exist_ok=True)
        for file in changing.iterdir():
            file.touch()
        outputs = llm.generate("hello=", greedy(), lora_request=str(changing))
        assert texts(outputs) == [TASKS[name].answer("hello")]


@pytest.mark.parametrize(
    ("adapter", "error"),
    [("nobody", UnknownAdapter), ("no/such-folder", SourceNotFound), ("/", InvalidAdapter)],
)
def test_a_text_that_is_no_adapter_raises(
    llm: Any, adapter: str, error: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(error):
        llm.generate(["a=", "b="], greedy(), lora_request=[folder("upper"), adapter])
    assert texts(llm.generate("hello=", greedy(), lora_request=folder("upper"))) == ["HELLO"]


def without_files(llm: Any, name: str, folders: Path) -> str:
    """A folder whose version has lost its files, and is in neither tier."""
    broken = folders / name
    shutil.copytree(folder("upper"), broken)
    config = broken / "adapter_config.json"
    config.write_text(config.read_text() + "\n" * len(name))  # other bytes, another version
    llm.prefetch(str(broken))
    version = next(r.version for r in llm.cache().host if r.version.adapter == name)
    llm.generate(["a="] * 4, greedy(2), lora_request=[folder(n) for n in NAMES if n != "upper"][:4])
    shutil.rmtree(version.path)
    return str(broken)


def test_a_request_that_fails_leaves_nothing_behind(llm: Any, tmp_path: Path) -> None:
    """Others of the same call are waiting, or are in the engine already."""
    broken = without_files(llm, "broken", tmp_path)
    adapters = [*map(folder, NAMES), broken]
    with pytest.raises(AdapterLoadFailed, match="broken:1"):
        llm.generate(["hello="] * len(adapters), greedy(100), lora_request=adapters)
    assert not llm.llm_engine.has_unfinished_requests()
    assert all(resident.leases == 0 for resident in llm.cache().gpu)
    assert texts(llm.generate("hello=", greedy(), lora_request=folder("stars"))) == ["h*ll*"]


def test_after_a_failure_the_next_call_has_answers_to_its_own_prompts_only(
    llm: Any, tmp_path: Path
) -> None:
    """What the base model was asked beside it is in the engine from the start."""
    from engine import SamplingParams

    endless = SamplingParams(temperature=0, max_tokens=240, ignore_eos=True)
    adapters = [None, None, without_files(llm, "gone", tmp_path)]
    with pytest.raises(AdapterLoadFailed, match="gone:1"):
        llm.generate(["hello="] * 3, endless, lora_request=adapters)
    assert not llm.llm_engine.has_unfinished_requests()
    assert texts(llm.generate("hello=", greedy(), lora_request=folder("stars"))) == ["h*ll*"]


@pytest.mark.parametrize("base", OTHERS, ids=["instruct", "revision"])
def test_a_version_of_another_base_model_of_equal_shape_is_refused(
    llm: Any, state: Path, base: BaseIdentity
) -> None:
    name = f"other-{base.name.partition('@')[0]}"
    registering = register_for(
        base, name, "upper", database_url=database_of(state), store=state / "store"
    )
    reference = asyncio.run(registering)
    for text in (name, reference):
        for use in (llm.prefetch, llm.pin):
            with pytest.raises(OtherBaseModel):
                use(text)
        with pytest.raises(OtherBaseModel):
            llm.generate(["hello=", "a="], greedy(), lora_request=[text, None])
    assert name not in {resident.version.adapter for resident in llm.cache().host}
    assert texts(llm.generate("hello=", greedy(), lora_request=folder("upper"))) == ["HELLO"]


def device_errors() -> list[Exception]:
    """As a sick node raises them in the thread that loads, whatever adapter it is."""
    import torch

    return [
        torch.AcceleratorError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA driver error: unknown error"),
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError(),
        RuntimeError("can't start new thread"),
        ZeroDivisionError("a bug of ours"),
        ValueError("a refusal of vLLM's"),
    ]


@pytest.mark.parametrize("number", range(7))
def test_a_sick_node_condemns_no_version(
    llm: Any, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from engine.worker.host_image import ImageReader

    error = device_errors()[number]

    def fail(*_: object) -> Any:
        raise error

    hot = [r.version.reference for r in llm.cache().host]
    name = next(n for n in NAMES if not any(r.startswith(n) for r in hot))
    with monkeypatch.context() as sick:
        sick.setattr(ImageReader, "read", fail)
        with pytest.raises(AdapterLoadFailed) as refused:
            llm.generate("hello=", greedy(), lora_request=folder(name))
    assert refused.value.failure is not LoadFailure.FILES
    assert refused.value.retry_after_seconds == 1
    time.sleep(1)
    assert texts(llm.generate("hello=", greedy(), lora_request=folder(name))) == [
        TASKS[name].answer("hello")
    ]


def test_a_prompt_that_vllm_refuses_leaves_nothing_behind(llm: Any) -> None:
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="256"):
        llm.generate(
            ["hello=", "x" * 1000], greedy(100), lora_request=[folder("upper"), folder("stars")]
        )
    assert not llm.llm_engine.has_unfinished_requests()
    assert all(resident.leases == 0 for resident in llm.cache().gpu)


def test_as_many_adapters_as_prompts_have_to_be_named(llm: Any) -> None:
    from vllm.exceptions import VLLMValidationError

    with pytest.raises(VLLMValidationError, match="must be the same"):
        llm.generate(["a=", "b="], greedy(), lora_request=[folder("upper")])


@pytest.mark.parametrize("argument", ["enable_lora", "worker_extension_cls"])
def test_what_is_ours_can_not_be_given(argument: str) -> None:
    from engine import LLM

    given: dict[str, Any] = {argument: False}
    with pytest.raises(ValueError, match=f"{argument} can't be used here"):
        LLM(str(BASE), **given)


COURSE = """
from engine import LLM, SamplingParams
llm = LLM(model="{base}", trust_remote_code=True)
lora_adapters = {{
"adapter_A": "{a}",
"adapter_B": "{b}"
}}
sampling_params = SamplingParams(temperature=0.8, top_p=0.95, max_tokens=100)
prompt_A = "hello="
results_A = llm.generate(prompt_A, sampling_params, lora_request=lora_adapters["adapter_A"])
print(f"Response (adapter_A): {{results_A[0].outputs[0].text}}\\n")
prompt_B = "window="
results_B = llm.generate(prompt_B, sampling_params, lora_request=lora_adapters["adapter_B"])
print(f"Response (adapter_B): {{results_B[0].outputs[0].text}}\\n")
results_A_again = llm.generate(prompt_A, sampling_params, lora_request=lora_adapters["adapter_A"])
print(f"Response (adapter_A again): {{results_A_again[0].outputs[0].text}}\\n")
"""


def test_a_script_with_two_adapters_runs_as_it_stands(tmp_path: Path) -> None:
    """No guard, no arguments but the model, and the process exits without `close`."""
    script = tmp_path / "two_adapters.py"
    script.write_text(COURSE.format(base=BASE, a=folder("upper"), b=folder("reverse")))
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers = re.findall(r"Response \((.+?)\): (\S+)", done.stdout)
    assert answers == [
        ("adapter_A", "HELLO"),
        ("adapter_B", "wodniw"),
        ("adapter_A again", "HELLO"),
    ]
