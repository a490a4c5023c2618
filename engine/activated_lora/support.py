"""Support of activated adapters: why this engine can't serve them, if it can't.

What has not been tried counts as what can't be: a wrong answer would not show.
"""

from collections.abc import Iterator
from typing import Any

from engine.activated_lora.block_keys import is_keyed
from engine.activated_lora.token_masks import is_maskable

_SPECULATION = ("ngram",)


def find_refusal(vllm_config: Any, runner: Any) -> str | None:
    """The first reason, None if they are served. Called in the worker."""
    return next(_refusals(vllm_config, runner), None)


def _refusals(config: Any, runner: Any) -> Iterator[str]:
    parallel, model, lora = config.parallel_config, config.model_config, config.lora_config
    if parallel.world_size > 1:
        yield "the model is split over several workers"
    if parallel.distributed_executor_backend != "uni":
        yield "its scheduler and its worker are two processes (--distributed-executor-backend uni)"
    if getattr(parallel, "use_ubatching", False):
        yield "batches are split in two (--enable-dbo, --ubatch-size)"
    if model.runner_type != "generate":
        yield "it does not generate"
    if model.is_hybrid or model.is_attention_free or model.is_encoder_decoder:
        yield "the model keeps other state than keys and values of its tokens"
    if getattr(lora, "enable_tower_connector_lora", False):
        yield "adapters apply to encoders too (--enable-tower-connector-lora)"
    speculative = config.speculative_config
    if speculative is not None and speculative.method not in _SPECULATION:
        yield f"it speculates with {speculative.method}; tried is {', '.join(_SPECULATION)}"
    if config.kv_transfer_config is not None:
        yield "keys and values are shared with other engines or stores (--kv-transfer-config)"
    if not is_maskable(runner):
        yield "this vLLM's model runner is not known"
    if not is_keyed():
        yield "the prefix cache of this vLLM can't be keyed by position"
