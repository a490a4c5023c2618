"""The offline `LLM` over an embedding model: every call of vLLM's takes adapters by name."""

from pathlib import Path

import pytest

from tests.support.adapters.peft_kinds import PROMPT, TOLERANCE, Peft, lora
from tests.support.adapters.tiny_bases import BASES
from tests.support.vllm.tiny_engines import offline_base

pytestmark = [pytest.mark.engine]


def test_embeddings_and_scores_are_those_of_each_prompts_adapter(tmp_path: Path) -> None:
    base = BASES["qwen3-embed"]
    model = base.save(tmp_path / "base")
    peft = Peft(model)
    targets = {"one": ["q_proj"], "two": ["v_proj"], "three": ["o_proj"]}
    right: dict[str | None, list[float]] = {None: peft.base.logprobs}
    for name, modules in targets.items():
        folder = lora(target_modules=modules).save(model, tmp_path / name)
        answer = peft.answer(folder)
        assert answer is not None
        right[str(folder)] = answer.logprobs
    asked = list(right) * 3
    with offline_base(model, dict(base.engine)) as offline:
        llm, prompts = offline.llm, [PROMPT] * len(asked)
        embedded = llm.embed(prompts, lora_request=asked, use_tqdm=False)
        encoded = llm.encode(prompts, lora_request=asked, pooling_task="embed", use_tqdm=False)
        for adapter, one, other in zip(asked, embedded, encoded, strict=True):
            expected = pytest.approx(right[adapter], abs=TOLERANCE)
            assert one.outputs.embedding == expected
            assert other.outputs.data.tolist() == expected
        for adapter in right:
            other_text = "and another text"
            (scored,) = llm.score(PROMPT, other_text, lora_request=adapter, use_tqdm=False)
            pair = llm.embed([PROMPT, other_text], lora_request=adapter, use_tqdm=False)
            vectors = [each.outputs.embedding for each in pair]
            cosine = sum(a * b for a, b in zip(*vectors, strict=True))
            assert scored.outputs.score == pytest.approx(cosine, abs=TOLERANCE)
        assert len(llm.cache().gpu) == 2
