"""Support of activated adapters: each mode of an engine that was not tried is a reason."""

from types import SimpleNamespace
from typing import Any

import pytest

from engine.activated_lora import support
from engine.activated_lora.block_keys import key_blocks
from engine.activated_lora.support import find_refusal

PLAIN: dict[str, dict[str, Any]] = {
    "parallel_config": {"world_size": 1, "distributed_executor_backend": "uni"},
    "model_config": {
        "runner_type": "generate",
        "is_hybrid": False,
        "is_attention_free": False,
        "is_encoder_decoder": False,
    },
    "lora_config": {},
}


def engine(part: str | None = None, **fields: Any) -> Any:
    parts = {name: SimpleNamespace(**known) for name, known in PLAIN.items()}
    if part is not None:
        vars(parts[part]).update(fields)
    return SimpleNamespace(**parts, speculative_config=None, kv_transfer_config=None)


def runner() -> Any:
    return SimpleNamespace(lora_state=SimpleNamespace(make_lora_inputs=None))


@pytest.fixture(autouse=True)
def _hooked() -> None:
    key_blocks()


def test_a_plain_engine_serves_them() -> None:
    assert find_refusal(engine(), runner()) is None
    first = SimpleNamespace(input_batch=SimpleNamespace(make_lora_inputs=None))
    assert find_refusal(engine(), first) is None
    speculating = engine()
    speculating.speculative_config = SimpleNamespace(method="ngram")
    assert find_refusal(speculating, runner()) is None


@pytest.mark.parametrize(
    ("part", "fields", "reason"),
    [
        ("parallel_config", {"world_size": 2}, "several workers"),
        ("parallel_config", {"distributed_executor_backend": "mp"}, "two processes"),
        ("parallel_config", {"use_ubatching": True}, "split in two"),
        ("model_config", {"runner_type": "pooling"}, "does not generate"),
        ("model_config", {"is_hybrid": True}, "other state"),
        ("model_config", {"is_attention_free": True}, "other state"),
        ("model_config", {"is_encoder_decoder": True}, "other state"),
        ("lora_config", {"enable_tower_connector_lora": True}, "encoders"),
    ],
)
def test_a_mode_that_was_not_tried_is_refused(
    part: str, fields: dict[str, Any], reason: str
) -> None:
    refusal = find_refusal(engine(part, **fields), runner())
    assert refusal is not None
    assert reason in refusal


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("speculative_config", SimpleNamespace(method="eagle"), "speculates with eagle"),
        ("kv_transfer_config", SimpleNamespace(), "--kv-transfer-config"),
    ],
)
def test_what_is_shared_or_guessed_is_refused(field: str, value: Any, reason: str) -> None:
    config = engine()
    setattr(config, field, value)
    assert reason in (find_refusal(config, runner()) or "")


def test_a_runner_and_a_cache_that_are_not_known_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "runner is not known" in (find_refusal(engine(), SimpleNamespace()) or "")
    monkeypatch.setattr(support, "is_keyed", lambda: False)
    assert "keyed by position" in (find_refusal(engine(), runner()) or "")
