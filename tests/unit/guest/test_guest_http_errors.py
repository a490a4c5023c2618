"""HTTP errors of a resolver, also on a vLLM that has none of its own."""

import runpy
from typing import Any

import pytest
import vllm.exceptions

from guest import http_errors


def test_a_guest_starts_on_a_vllm_without_such_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert http_errors.GracefulHTTPError is vllm.exceptions.GracefulHTTPError
    monkeypatch.delattr(vllm.exceptions, "GracefulHTTPError")
    error: Any = runpy.run_path(http_errors.__file__)["GracefulHTTPError"]("it is away", 503)
    assert (error.http_status, str(error)) == (503, "it is away")
