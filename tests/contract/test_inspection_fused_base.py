"""Verdicts for a base model whose own layers are fused and whose head is tied, as in Phi-3.

The engine accepts adapters for some modules only: vLLM ignores the others silently.
"""

import itertools
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Phi3Config, Phi3ForCausalLM

from engine.vllm.backend import merge_served_modules
from registry.inspection.base_model import BaseModel, read_base_model
from registry.inspection.inspector import judge_adapter
from tests.support.adapters.peft_kinds import (
    ALONE,
    PROMPT,
    TOKENS,
    Answer,
    Kind,
    Peft,
    lora,
    renamed,
)
from tests.support.vllm.installed import KNOWS_PATTERNS

pytestmark = [pytest.mark.engine]

DEMO_BASE = Path(__file__).resolve().parents[2] / "demo" / "base"
MAX_RANK = 8
TARGETS = ["qkv_proj", "gate_up_proj", "o_proj", "embed_tokens", "lm_head"]

ACCEPTED: dict[str, Callable[[], Kind]] = {
    "queries, keys and values in one": lambda: lora(target_modules=["qkv_proj"]),
    "gate and up in one": lambda: lora(target_modules=["gate_up_proj"]),
    "a plain layer": lambda: lora(target_modules=["o_proj"]),
    "all that is served": lambda: lora(
        target_modules=["qkv_proj", "gate_up_proj", "o_proj"],
        rank_pattern={"o_proj": 8} if KNOWS_PATTERNS else {},
    ),
    "the embedding alone": lambda: lora(target_modules=["embed_tokens"], options=ALONE),
    "the head alone": lambda: lora(target_modules=["lm_head"], options=ALONE),
    "both, saved along": lambda: lora(target_modules=["embed_tokens", "lm_head"]),
    "both, kept tied": lambda: lora(target_modules=["embed_tokens"], ensure_weight_tying=True),
}

REFUSED: dict[str, tuple[str, Callable[[], Kind]]] = {
    "a module that the engine leaves out": (
        "module_not_served",
        lambda: lora(target_modules=["down_proj"]),
    ),
    "that module among others": ("module_not_served", lambda: lora(target_modules="all-linear")),
    "a part of a fused module": (
        "unknown_module",
        lambda: lora(renamed("qkv_proj", "q_proj"), target_modules=["qkv_proj"]),
    ),
}


class TinyEngine:
    """Stock vLLM within this process: two seconds, where it is imported already."""

    def __init__(self, folder: Path) -> None:
        from vllm import LLM

        self.llm: Any = LLM(
            model=str(folder),
            dtype="float32",
            enable_lora=True,
            max_loras=1,
            max_lora_rank=MAX_RANK,
            lora_target_modules=TARGETS,
            max_model_len=64,
            enforce_eager=True,
            kv_cache_memory_bytes=16 * 2**20,
            distributed_executor_backend="uni",
        )
        self._ids = itertools.count(1)

    def base_model(self, folder: Path) -> BaseModel:
        served = merge_served_modules(self.llm.collective_rpc(_modules), self)
        return read_base_model("fused", folder, served)

    def places(self, tensors: Sequence[str]) -> Sequence[str | None]:
        """The `Naming` port."""
        (answer,) = self.llm.collective_rpc(_places, args=(list(tensors),))
        found: Sequence[str | None] = answer
        return found

    def answer(self, adapter: Path | None) -> Answer | str:
        """With what vLLM loads on its own; its error as text."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest

        engine, request = self.llm.llm_engine, None
        if adapter is not None:
            number = next(self._ids)
            request = LoRARequest(f"adapter-{number}", number, str(adapter))
            try:
                engine.add_lora(request)
            except Exception as error:
                return str(error)
        sampling = SamplingParams(max_tokens=TOKENS, temperature=0, logprobs=1, ignore_eos=True)
        outputs = self.llm.generate([PROMPT], sampling, lora_request=request, use_tqdm=False)
        done = outputs[0].outputs[0]
        logprobs = zip(done.token_ids, done.logprobs, strict=True)
        return Answer(list(done.token_ids), [found[token].logprob for token, found in logprobs])


def _modules(worker: Any) -> dict[str, Any]:
    from engine.worker.lora_modules import describe_modules

    return describe_modules(worker.model_runner.lora_manager._adapter_manager, None)


def _places(worker: Any, tensors: list[str]) -> list[str | None]:
    from engine.worker.module_names import place_tensors

    return place_tensors(worker.model_runner.lora_manager._adapter_manager, tensors)


@pytest.fixture(scope="module")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Phi-3 of random weights with the demo's tokenizer."""
    folder = tmp_path_factory.mktemp("fused")
    torch.manual_seed(1)
    config = Phi3Config(
        vocab_size=264, hidden_size=128, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
        bos_token_id=None, eos_token_id=1, pad_token_id=0, tie_word_embeddings=True,
        initializer_range=0.1,
    )  # fmt: skip
    Phi3ForCausalLM(config).save_pretrained(folder)
    for file in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(DEMO_BASE / file, folder)
    return folder


@pytest.fixture(scope="module")
def engine(base_folder: Path) -> Iterator[TinyEngine]:
    from vllm import envs
    from vllm.distributed import cleanup_dist_env_and_memory

    # vLLM compiles what ranks tokens, eager or not: nine seconds of CPU, where ours does not
    with torch.compiler.set_stance("force_eager"), pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        environment.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        environment.setenv("OMP_NUM_THREADS", "1")
        envs.disable_envs_cache()  # an engine before may have made vLLM read them once for all
        tiny = TinyEngine(base_folder)
        yield tiny
        tiny.llm.llm_engine.engine_core.shutdown()
        cleanup_dist_env_and_memory()
    envs.disable_envs_cache()


@pytest.fixture(scope="module")
def peft(base_folder: Path) -> Peft:
    return Peft(base_folder)


def test_the_base_model_generates_the_same_in_both(engine: TinyEngine, peft: Peft) -> None:
    answer = engine.answer(None)
    assert isinstance(answer, Answer)
    assert answer.equals(peft.base)


def test_the_engine_names_what_it_wraps(engine: TinyEngine, base_folder: Path) -> None:
    served = engine.base_model(base_folder).served
    assert served is not None
    layer = {name: module.shape for name, module in served.modules.items() if ".1." in name}
    assert layer == {
        "model.layers.1.self_attn.qkv_proj": (256, 128),
        "model.layers.1.self_attn.o_proj": (128, 128),
        "model.layers.1.mlp.gate_up_proj": (192, 128),
    }
    assert served.modules["model.embed_tokens"].shape == (128, 264)
    assert served.modules["lm_head"].shape == (264, 128)


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_is_accepted_answers_as_peft_does(
    engine: TinyEngine, peft: Peft, base_folder: Path, tmp_path: Path, what: str
) -> None:
    folder = ACCEPTED[what]().save(base_folder, tmp_path)
    verdict = judge_adapter(folder, engine.base_model(base_folder), MAX_RANK)
    assert verdict.problems == ()
    answer, expected = engine.answer(folder), peft.answer(folder)
    assert isinstance(answer, Answer)
    assert expected is not None
    assert answer.equals(expected)
    assert not answer.equals(peft.base)


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_vllm_refuses_or_serves_in_part(
    engine: TinyEngine, peft: Peft, base_folder: Path, tmp_path: Path, what: str
) -> None:
    code, make = REFUSED[what]
    folder = make().save(base_folder, tmp_path)
    verdict = judge_adapter(folder, engine.base_model(base_folder), MAX_RANK)
    assert code in verdict.counts
    answer, expected = engine.answer(folder), peft.answer(folder)
    if isinstance(answer, Answer):
        assert expected is not None
        assert not answer.equals(expected)
