"""Ranks of log probabilities: equal to vLLM's, with nothing to compile at a first request."""

import pytest
import torch
from vllm.v1.sample import sampler
from vllm.v1.sample.ops import logprobs

from engine.worker import extension, logprob_ranks


@pytest.mark.parametrize("bytes_at_a_time", [2**20, 300, 1])
def test_they_are_those_of_vllm(monkeypatch: pytest.MonkeyPatch, bytes_at_a_time: int) -> None:
    monkeypatch.setattr(logprob_ranks, "_BYTES_AT_A_TIME", bytes_at_a_time)
    theirs = logprobs.batched_count_greater_than._torchdynamo_orig_callable  # what it compiles
    x = torch.randn(7, 100, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    x[3, 5] = float("-inf")
    values = x[:, 5:6]
    assert torch.equal(logprob_ranks.count_at_least(x, values), theirs(x, values))


def test_the_sampler_of_a_worker_counts_them_so() -> None:
    assert extension.__name__ == "engine.worker.extension"  # which vLLM imports in a worker
    sampled = torch.randn(2, 9).log_softmax(-1)
    found = sampler.Sampler.gather_logprobs(sampled, 1, torch.tensor([1, 2]))
    assert found.selected_token_ranks.tolist() == [
        int((row >= row[token]).sum()) for row, token in zip(sampled, (1, 2), strict=True)
    ]
    assert sampler.batched_count_greater_than is logprob_ranks.count_at_least
