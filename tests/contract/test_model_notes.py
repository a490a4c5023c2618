"""Models that vLLM inspects before it starts with one: here, where their classes are imported."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from vllm.model_executor.models import registry

from tests.support.servers.zygote import inspect_models_here

MODEL = registry.ModelRegistry.models["Qwen3ForCausalLM"]


def test_a_fork_of_a_process_that_has_imported_vllm_imports_it_in_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = MODEL.inspect_model_cls()
    monkeypatch.setattr(registry, "_SUBPROCESS_COMMAND", ["false"])
    monkeypatch.setattr(registry, "_run_in_subprocess", registry._run_in_subprocess)
    monkeypatch.setattr(type(MODEL), "_get_cache_dir", lambda _: tmp_path)
    inspect_models_here()
    assert as_json(MODEL.inspect_model_cls()) == as_json(right)
    assert [note.suffix for note in tmp_path.iterdir()] == [".json"], "for executed servers too"


def as_json(info: Any) -> str:
    """As it is noted: a note has lists for tuples."""
    return json.dumps(asdict(info))
