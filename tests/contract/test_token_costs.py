"""Costs of a token that vLLM has without need: gone in a process that serves."""

import os
import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel
from vllm import envs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from benchmarks.overhead.applications import ours, prepare
from benchmarks.overhead.streams import ADAPTERS
from engine.vllm.token_costs.environment import environment_read_once
from engine.vllm.token_costs.stream_models import (
    STREAMED,
    build_streams_unchecked,
    models_within,
)

CHECK = "__log_extra_fields__"
VARIABLE = "VLLM_HTTP_TIMEOUT_KEEP_ALIVE"

COMPLETION = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "upper",
    "choices": [{"index": 0, "text": "A", "finish_reason": None}],
}
CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "upper",
    "choices": [{"index": 0, "delta": {"content": "A"}, "finish_reason": "stop"}],
}


def _validators(model: type[BaseModel]) -> dict[str, Any]:
    return model.__pydantic_decorators__.model_validators


MODELS = list(dict.fromkeys(each for model in STREAMED for each in models_within(model)))
VLLMS_OWN = {model: dict(_validators(model)) for model in MODELS}  # when tests are collected


@pytest.fixture(autouse=True)
def vllms_own_models() -> None:
    """As in a process that has served nothing yet."""
    assert all(CHECK in VLLMS_OWN[model] for model in STREAMED)
    for model, validators in VLLMS_OWN.items():
        _validators(model).update(validators)
    for model in MODELS:
        model.model_rebuild(force=True)


def calls_while(make: Any) -> Counter[str]:
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        make()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(("model", "fields"), [(STREAMED[0], COMPLETION), (STREAMED[1], CHAT)])
def test_a_part_of_a_stream_is_built_without_the_check_for_unknown_fields(
    model: Any, fields: dict[str, Any]
) -> None:
    assert CHECK in calls_while(lambda: model(**fields))
    build_streams_unchecked()
    build_streams_unchecked()  # once for each server of a process
    assert CHECK not in calls_while(lambda: model(**fields))
    assert model(**fields).model_dump(exclude_unset=True) == fields


def test_requests_are_checked_as_before() -> None:
    build_streams_unchecked()
    plain = {"model": "upper", "prompt": "a"}
    assert CHECK in calls_while(lambda: CompletionRequest(**plain))
    chat = {"model": "upper", "messages": [{"role": "user", "content": "a"}]}
    assert CHECK in calls_while(lambda: ChatCompletionRequest(**chat))


def test_a_variable_is_read_once_while_any_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "10")
    with environment_read_once():
        with environment_read_once():
            monkeypatch.setenv(VARIABLE, "20")
            assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 10
        assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 10
    assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 20


async def test_a_server_spares_its_tokens_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = prepare(tmp_path, ADAPTERS)
    monkeypatch.setenv(VARIABLE, "10")
    async with ours(arguments, tmp_path / "adapters", tmp_path / "state", keys=False):
        os.environ[VARIABLE] = "20"
        assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 10
        assert [model for model in MODELS if CHECK in _validators(model)] == []
    assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 20
