"""Served base: the identity of the base model that this vLLM serves."""

from typing import Any

from registry.bases.model_folder import find_model_folder
from registry.inspection.base_identity import BaseIdentity, identity_of, parse_identity


def served_base(models: Any, declared: str | None) -> BaseIdentity:
    """`models`: vLLM's `OpenAIServingModels`. Reads samples of the weights: call it in a thread."""
    if declared is not None and "#" in declared:
        return parse_identity(declared)
    config = models.engine_client.vllm_config.model_config
    folder = find_model_folder(config.model, config.revision)
    return identity_of(config.model, folder, revision=config.revision, declared=declared)
