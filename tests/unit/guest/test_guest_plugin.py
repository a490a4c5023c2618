"""The guest's plugin in vLLM's process."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import prometheus_client
import pytest
from vllm import envs
from vllm.engine.protocol import EngineClient
from vllm.entrypoints.openai.models.serving import OpenAIServingModels
from vllm.lora.resolver import LoRAResolverRegistry

from guest.first_requests import NotingEngine
from guest.plugin import REGISTRY, SKIPS_NAMES, _check_every_name, register
from guest.resolver import RegistryResolver


def test_no_variable_lets_the_base_model_answer_for_the_registrys_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(SKIPS_NAMES, "1")
    assert envs.VLLM_SKIP_MODEL_NAME_VALIDATION is True
    _check_every_name()
    assert envs.VLLM_SKIP_MODEL_NAME_VALIDATION is False
    (record,) = caplog.records
    assert SKIPS_NAMES in record.getMessage()


def test_vllms_table_of_adapters_tells_why_its_engine_refuses_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for method in ("__init__", "init_static_loras"):  # as they were, afterwards
        monkeypatch.setattr(OpenAIServingModels, method, getattr(OpenAIServingModels, method))
    monkeypatch.setattr(LoRAResolverRegistry, "resolvers", {})
    monkeypatch.setenv(REGISTRY, "http://127.0.0.1:1")
    monkeypatch.setenv("ADAPTRY_GUEST_FILES", str(tmp_path))
    before = set(collectors())
    try:
        register()
        engine = SimpleNamespace(model_config=None, renderer=None, input_processor=None)
        table = OpenAIServingModels(cast("EngineClient", engine), [])
    finally:
        for added in set(collectors()) - before:
            prometheus_client.REGISTRY.unregister(added)
    (resolver,) = table.lora_resolvers
    assert isinstance(resolver, RegistryResolver)
    assert resolver.models is table
    assert isinstance(table.engine_client, NotingEngine)


def collectors() -> list[Any]:
    return list(prometheus_client.REGISTRY._collector_to_names)
