"""HTTP errors of a resolver, also on a vLLM that has none of its own."""

import runpy
import sys
from http import HTTPStatus
from types import ModuleType
from typing import Any

import pytest
import vllm.exceptions

from guest import http_errors

PROTOCOL = "vllm.entrypoints.openai.engine.protocol"


class GenerationError(Exception):
    """As vLLM 0.26 has it."""

    def __init__(self, message: str = "Internal server error") -> None:
        super().__init__(message)
        self.status_code = HTTPStatus.INTERNAL_SERVER_ERROR


def test_a_guest_starts_on_a_vllm_without_such_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http_errors.GracefulHTTPError is vllm.exceptions.GracefulHTTPError
    monkeypatch.delattr(vllm.exceptions, "GracefulHTTPError")
    protocol = ModuleType(PROTOCOL)
    protocol.__dict__["GenerationError"] = GenerationError
    monkeypatch.setitem(sys.modules, PROTOCOL.rpartition(".")[0], ModuleType("engine"))
    monkeypatch.setitem(sys.modules, PROTOCOL, protocol)
    error: Any = runpy.run_path(http_errors.__file__)["GracefulHTTPError"]("it is away", 503)
    assert (error.http_status, str(error)) == (503, "it is away")
    assert isinstance(error, GenerationError), "the one that vLLM answers with its own status"
    assert error.status_code is HTTPStatus.SERVICE_UNAVAILABLE
