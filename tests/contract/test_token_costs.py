"""Costs of a token that vLLM has without need: gone in a process that serves."""

import sys
from collections import Counter
from types import FrameType
from typing import Any

import pytest
from vllm import envs
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from engine.vllm.token_costs.environment import environment_read_once
from engine.vllm.token_costs.stream_models import STREAMED, build_streams_unchecked

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
    build_streams_unchecked()
    build_streams_unchecked()  # once for each server of a process
    assert "__log_extra_fields__" not in calls_while(lambda: model(**fields))
    assert model(**fields).model_dump(exclude_unset=True) == fields


def test_requests_are_checked_as_before() -> None:
    build_streams_unchecked()
    plain = {"model": "upper", "prompt": "a"}
    assert "__log_extra_fields__" in calls_while(lambda: CompletionRequest(**plain))
    chat = {"model": "upper", "messages": [{"role": "user", "content": "a"}]}
    assert "__log_extra_fields__" in calls_while(lambda: ChatCompletionRequest(**chat))


def test_a_variable_is_read_once_while_any_server_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "10")
    with environment_read_once():
        with environment_read_once():
            monkeypatch.setenv("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", "20")
            assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 10
        assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 10
    assert envs.VLLM_HTTP_TIMEOUT_KEEP_ALIVE == 20
