"""CPU patches: rows without an adapter in mixed batches, through vLLM's own torch kernels."""

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import vllm.lora.ops.torch_ops.lora_ops as kernels
import vllm.lora.punica_wrapper.punica_cpu as punica

from engine.worker import cpu_patches

NAMES = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
MODULES = (kernels, punica)
TOKENS, INPUTS, OUTPUTS, SLOTS = 6, 8, 5, 3
MIXED = torch.tensor([0, -1, 2, 1, -1, 2])
WITHOUT = MIXED < 0

RANDOM = torch.Generator().manual_seed(0)
X = torch.randn(TOKENS, INPUTS, generator=RANDOM)
WEIGHTS = torch.randn(SLOTS, 1, OUTPUTS, INPUTS, generator=RANDOM)
BEFORE = torch.randn(TOKENS, OUTPUTS + 2, generator=RANDOM)  # wider, as a padded layer's output is

SHIPPED_LOGITS = punica.PunicaWrapperCPU.add_lora_logits

each_kernel = pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bgmv_shrink", {"scaling": 0.5}),
        ("bgmv_expand", {"add_inputs": True}),
        ("bgmv_expand", {"add_inputs": False}),
        ("bgmv_expand_slice", {"slice_offset": 1, "slice_size": OUTPUTS, "add_inputs": True}),
        ("bgmv_expand_slice", {"slice_offset": 1, "slice_size": OUTPUTS, "add_inputs": False}),
    ],
)


@pytest.fixture(autouse=True)
def _kernels_as_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine may have patched this process already; each test's patches are undone after it."""
    for name in NAMES:
        for module in MODULES:
            monkeypatch.setattr(module, name, shipped(name))
    monkeypatch.setattr(punica.PunicaWrapperCPU, "add_lora_logits", SHIPPED_LOGITS)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def shipped(name: str) -> Callable[..., None]:
    kernel: Callable[..., None] = inspect.unwrap(getattr(kernels, name))
    return kernel


def output_of(
    kernel: Callable[..., None], slots: torch.Tensor, options: dict[str, Any]
) -> torch.Tensor:
    output = BEFORE.clone()
    kernel(X, WEIGHTS, output, slots, **options)
    return output


@each_kernel
def test_the_patch_is_needed_if_such_rows_get_the_last_slots_adapter(
    name: str, options: dict[str, Any]
) -> None:
    mixed = output_of(shipped(name), MIXED, options)
    with_the_last_slot = output_of(shipped(name), MIXED % SLOTS, options)
    assert not torch.equal(with_the_last_slot[WITHOUT], BEFORE[WITHOUT])
    wrong = torch.equal(mixed[WITHOUT], with_the_last_slot[WITHOUT])
    assert cpu_patches.needs_row_patch() == wrong


@each_kernel
def test_a_patched_kernel_leaves_such_rows_and_changes_no_other(
    name: str, options: dict[str, Any]
) -> None:
    original = output_of(shipped(name), MIXED, options)
    patched = output_of(cpu_patches.skip_rows_without_adapter(shipped(name)), MIXED, options)
    assert torch.equal(patched[WITHOUT], BEFORE[WITHOUT])
    assert torch.equal(patched[~WITHOUT], original[~WITHOUT])
    assert not torch.equal(patched[~WITHOUT], BEFORE[~WITHOUT])


@each_kernel
def test_unmixed_batches_are_computed_or_left_unchanged(name: str, options: dict[str, Any]) -> None:
    patched = cpu_patches.skip_rows_without_adapter(shipped(name))
    with_adapters = MIXED.clamp(min=0)
    original = output_of(shipped(name), with_adapters, options)
    assert torch.equal(output_of(patched, with_adapters, options), original)
    assert torch.equal(output_of(patched, torch.full_like(MIXED, -1), options), BEFORE)


def test_indices_and_arguments_stay_as_the_caller_gave_them() -> None:
    slots = MIXED.clone()
    patched = cpu_patches.skip_rows_without_adapter(shipped("bgmv_shrink"))
    by_position = BEFORE.clone()
    patched(X, WEIGHTS, by_position, slots, 0.5)
    assert torch.equal(slots, MIXED)
    assert torch.equal(by_position, output_of(patched, MIXED, {"scaling": 0.5}))


def test_patching_replaces_the_kernels_in_every_module() -> None:
    needed = cpu_patches.needs_row_patch()
    cpu_patches.apply_patches()
    assert not cpu_patches.needs_row_patch()
    for name in NAMES:
        assert getattr(punica, name) is getattr(kernels, name)
        assert (getattr(kernels, name) is not shipped(name)) == needed


def test_amx_is_asked_for_before_a_first_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch.cpu, "_init_amx", lambda: asked.append(True), raising=False)
    cpu_patches.apply_patches()
    assert asked == [True]


def test_patching_again_changes_nothing() -> None:
    cpu_patches.apply_patches()
    once = [getattr(module, name) for module in MODULES for name in NAMES]
    cpu_patches.apply_patches()
    assert [getattr(module, name) for module in MODULES for name in NAMES] == once


def test_a_build_that_masks_such_rows_itself_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def masking(inputs: Any, weights: Any, output: Any, indices: torch.Tensor) -> None:
        no_lora_mask = indices < 0  # as vLLM 0.33 calls it
        assert no_lora_mask is not None

    monkeypatch.setattr(kernels, "bgmv_shrink", masking)
    assert not cpu_patches.needs_row_patch()
    cpu_patches.apply_patches()
    assert kernels.bgmv_shrink is masking
    assert kernels.bgmv_expand is shipped("bgmv_expand")


def test_a_prompt_without_adapter_beside_one_with_is_left_alone_too() -> None:
    """The prefill's kernels call the patched ones, one sequence at a time."""
    cpu_patches.apply_patches()
    slots, lengths = torch.tensor([-1, 2]), torch.tensor([2, TOKENS - 2])
    output = BEFORE.clone()
    starts = torch.tensor([0, 2])
    kernels.sgmv_expand(X, WEIGHTS, output, starts, lengths, slots, 2, TOKENS - 2, TOKENS, True)
    assert torch.equal(output[:2], BEFORE[:2])
    assert not torch.equal(output[2:], BEFORE[2:])


def test_nothing_is_patched_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    cpu_patches.apply_patches()
    assert all(getattr(module, name) is shipped(name) for module in MODULES for name in NAMES)


# ---- logits ------------------------------------------------------------------------------

HIDDEN, RANK, WORDS = INPUTS, 4, 7
LORA_A = torch.randn(SLOTS, 1, RANK, HIDDEN, generator=RANDOM)
LORA_B = torch.randn(SLOTS, 1, WORDS, RANK, generator=RANDOM)
STATES = torch.randn(TOKENS, HIDDEN, generator=RANDOM)  # of all scheduled tokens
SAMPLED = torch.tensor([1, 5])  # the last token of each of two requests


def logits(x: torch.Tensor, add: Any = cpu_patches.add_lora_logits) -> torch.Tensor:
    """Of a batch of two requests, tokens 0-1 and 2-5, with the slots of MIXED."""
    wrapper = SimpleNamespace(token_lora_indices=MIXED, sampler_indices=MIXED[SAMPLED])
    output = torch.zeros(x.shape[0], WORDS)
    add(wrapper, output, x, LORA_A, LORA_B, 1.0)
    return output


def expected_logits(tokens: list[int]) -> torch.Tensor:
    rows = [
        STATES[token] @ LORA_A[slot, 0].T @ LORA_B[slot, 0].T if slot >= 0 else torch.zeros(WORDS)
        for token in tokens
        for slot in [int(MIXED[token])]
    ]
    return torch.stack(rows)


def test_logits_of_sampled_tokens_are_each_requests_own() -> None:
    cpu_patches.apply_patches()
    torch.testing.assert_close(logits(STATES[SAMPLED]), expected_logits([1, 5]))


@pytest.mark.parametrize(("first", "last"), [(0, 1), (2, 5), (2, 4), (0, 2), (4, 6), (0, 6)])
def test_logits_of_a_prompt_are_those_of_its_own_tokens(first: int, last: int) -> None:
    """Also if there are as many rows as sampled tokens."""
    cpu_patches.apply_patches()
    torch.testing.assert_close(logits(STATES[first:last]), expected_logits([*range(first, last)]))


def test_unpatched_logits_stop_the_engine() -> None:
    with pytest.raises(RuntimeError, match="broadcast"):
        logits(STATES[2:5], SHIPPED_LOGITS)


def test_patching_replaces_the_logits() -> None:
    cpu_patches.apply_patches()
    assert punica.PunicaWrapperCPU.add_lora_logits is cpu_patches.add_lora_logits
