"""CPU patches: three fixes that vLLM's CPU build needs, up to 0.32, to serve adapters safely.

Patches `vllm.lora.ops.torch_ops.lora_ops` and `vllm.lora.punica_wrapper.punica_cpu` (0.32.0), of
the latter `PunicaWrapperCPU.add_lora_logits`, `sampler_indices` and `token_lora_indices`.
Imported in the worker process before the model loads. Does nothing on CUDA.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
import vllm.lora.ops.torch_ops.lora_ops as kernels
import vllm.lora.punica_wrapper.punica_cpu as punica

_KERNELS = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")

Kernel = Callable[..., None]


def skip_rows_without_adapter(kernel: Kernel) -> Kernel:
    """Leave the output rows of tokens without an adapter (index -1) unchanged.

    Unpatched, -1 counts from the end: a base-model token in a mixed batch silently gets the
    adapter in the last slot (vLLM pull request 48421, in 0.33).

    `inputs`: (tokens, in); `weights`: (slots, [1,] out, in); `output`: (>= tokens, >= out);
    `indices`: (tokens,) slot numbers.
    """

    @functools.wraps(kernel)
    def patched(
        inputs: torch.Tensor,
        weights: torch.Tensor,
        output: torch.Tensor,
        indices: torch.Tensor,
        *rest: Any,
        **options: Any,
    ) -> None:
        without = indices < 0
        if not bool(without.any()):
            kernel(inputs, weights, output, indices, *rest, **options)
            return
        rows = output[: without.shape[0]]
        untouched = rows[without]  # a copy, as a mask selects
        kernel(inputs, weights, output, indices.clamp(min=0), *rest, **options)
        rows[without] = untouched

    patched.adaptry_patched = True  # type: ignore[attr-defined]  # marks it as done
    return patched


def add_lora_logits(
    self: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a_stacked: torch.Tensor,
    lora_b_stacked: torch.Tensor,
    scale: float,
    **_: Any,
) -> None:
    """Replaces vLLM's, which mistakes the rows of a prompt for those of the sampled tokens.

    If a request for prompt log probabilities is batched with another request, vLLM's version stops
    the engine, for any adapter. `y`: (rows, vocabulary); `x`: (rows, hidden).
    """
    indices = _slots_of_rows(x, self.sampler_indices, self.token_lora_indices)
    buffer = torch.zeros((x.shape[0], lora_b_stacked.shape[-1]), dtype=torch.float32)
    punica.bgmv_shrink(x, lora_a_stacked, buffer, indices, scale)
    punica.bgmv_expand(buffer, lora_b_stacked, y, indices, add_inputs=True)


def _slots_of_rows(x: torch.Tensor, sampled: torch.Tensor, scheduled: torch.Tensor) -> torch.Tensor:
    """Rows of a prompt are a view of all scheduled tokens; rows of sampled tokens are a copy."""
    is_view = x.untyped_storage().nbytes() > x.numel() * x.itemsize
    if not is_view and x.shape[0] == sampled.shape[0]:
        return sampled
    first = x.storage_offset() // x.stride(0)
    return scheduled[first : first + x.shape[0]]


def needs_row_patch() -> bool:
    """False on a build that masks such rows itself, or once patched."""
    kernel = kernels.bgmv_shrink
    masks_itself = "no_lora_mask" in kernel.__code__.co_varnames
    return not masks_itself and not hasattr(kernel, "adaptry_patched")


def apply_patches() -> None:
    """Apply all patches to this process."""
    if torch.cuda.is_available():
        return
    # Without a warm-up run, a short first prompt reaches the AMX attention kernel before oneDNN
    # has requested AMX from the operating system: SIGILL. Requesting it again is harmless.
    if hasattr(torch.cpu, "_init_amx"):
        torch.cpu._init_amx()
    if needs_row_patch():
        for name in _KERNELS:
            patched = skip_rows_without_adapter(getattr(kernels, name))
            setattr(kernels, name, patched)
            setattr(punica, name, patched)
    punica.PunicaWrapperCPU.add_lora_logits = add_lora_logits
