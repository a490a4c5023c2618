"""Two engines for one tiny base model: the offline class, which vLLM alone can be asked through,
and a server over HTTP.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.adapters.matrix import MAX_RANK
from tests.support.adapters.peft_kinds import PROMPT, TOKENS, Answer, task_of
from tests.support.servers.adaptry_serve import ServedDemo


class OfflineBase:
    """Our `LLM`. Adapters as references or folders; `stock` goes past the registry and cache."""

    def __init__(self, folder: Path, arguments: dict[str, Any]) -> None:
        from engine import LLM

        self._task = task_of(folder)
        self.llm: Any = LLM(
            str(folder),
            max_loras=2,
            max_lora_rank=MAX_RANK,
            dtype="float32",
            max_model_len=64,
            enforce_eager=True,
            kv_cache_memory_bytes=16 * 2**20,
            **arguments,
        )
        self._ids = itertools.count(5_000_000)

    def answer(self, adapter: str | None) -> Answer:
        """Raises the registry's errors."""
        if self._task == "embed":
            (pooled,) = self.llm.embed([PROMPT], lora_request=adapter, use_tqdm=False)
            return Answer([], list(pooled.outputs.embedding))
        if self._task == "classify":
            (pooled,) = self.llm.classify([PROMPT], lora_request=adapter, use_tqdm=False)
            return Answer([], list(pooled.outputs.probs))
        from vllm import SamplingParams

        sampling = SamplingParams(max_tokens=TOKENS, temperature=0, logprobs=1, ignore_eos=True)
        (generated,) = self.llm.generate([PROMPT], sampling, lora_request=adapter, use_tqdm=False)
        done = generated.outputs[0]
        logprobs = zip(done.token_ids, done.logprobs, strict=True)
        return Answer(list(done.token_ids), [found[token].logprob for token, found in logprobs])

    def stock(self, folder: Path) -> Answer | str:
        """What vLLM does with the same files: its answer, or its error."""
        from vllm.lora.request import LoRARequest

        number, ours = next(self._ids), self.llm.llm_engine
        request = LoRARequest(f"stock-{number}", number, str(folder))
        try:
            self.llm._engine.add_lora(request)
        except Exception as error:
            return str(error)
        self.llm.llm_engine = self.llm._engine
        self.llm._handle = lambda passed_on: passed_on
        try:
            return self.answer(request)
        finally:
            self.llm.llm_engine = ours
            del self.llm._handle
            self.llm._engine.remove_lora(number)


@contextmanager
def offline_base(folder: Path, arguments: dict[str, Any]) -> Iterator[OfflineBase]:
    """In this process. vLLM reads its environment once for all, unless it is told otherwise."""
    from vllm import envs
    from vllm.distributed import cleanup_dist_env_and_memory

    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
        environment.setenv("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        environment.setenv("OMP_NUM_THREADS", "1")
        envs.disable_envs_cache()
        base = OfflineBase(folder, arguments)
        try:
            yield base
        finally:
            base.llm.close()
            cleanup_dist_env_and_memory()
    envs.disable_envs_cache()


class ServedBase(ServedDemo):
    """`adaptry serve` over a tiny base model; adapters from the folder `sources`."""

    def __init__(
        self, folder: Path, base: Path, sources: Path, arguments: dict[str, Any], **settings: str
    ) -> None:
        super().__init__(folder, **settings)
        self.base, self.sources = base, sources
        self._task = task_of(base)
        self.arguments = (
            *("--max-model-len", "64", "--max-lora-rank", str(MAX_RANK), "--max-loras", "2"),
            *("--served-model-name", "base", *_flags(arguments)),
        )

    def add(self, name: str, source: Path) -> str | None:
        """The code of the refusal, if it is refused."""
        body = {"source": str(source)}
        response = self.client.post(f"/api/v1/adapters/{name}/versions", json=body)
        assert response.status_code in (200, 201, 422), response.text
        return None if response.status_code != 422 else str(response.json()["code"])

    def answer(self, model: str) -> Answer:
        if self._task == "embed":
            return Answer([], self._ask("/v1/embeddings", model=model, input=PROMPT)["embedding"])
        if self._task == "classify":
            return Answer([], self._ask("/classify", model=model, input=PROMPT)["probs"])
        response = self.client.post(
            "/v1/completions",
            json={
                "model": model,
                "prompt": PROMPT,
                "max_tokens": TOKENS,
                "temperature": 0,
                "logprobs": 1,
                "return_token_ids": True,
                "ignore_eos": True,
            },
        )
        assert response.status_code == 200, response.text
        choice = response.json()["choices"][0]
        return Answer(choice["token_ids"], choice["logprobs"]["token_logprobs"])

    def _ask(self, route: str, **body: Any) -> dict[str, Any]:
        response = self.client.post(route, json=body)
        assert response.status_code == 200, response.text
        (answer,) = response.json()["data"]
        found: dict[str, Any] = answer
        return found


def _flags(arguments: dict[str, Any]) -> list[str]:
    flags: list[str] = []
    for name, value in arguments.items():
        flags += [f"--{name.replace('_', '-')}", *(value if isinstance(value, list) else [value])]
    return flags


@contextmanager
def served_base(
    folder: Path, base: Path, sources: Path, arguments: dict[str, Any]
) -> Iterator[ServedBase]:
    server = ServedBase(folder, base, sources, arguments)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        server.client.close()
