"""HTTP errors of a resolver, also on a vLLM that has none of its own."""

import runpy
from typing import Any

import pytest
import vllm.exceptions
from fastapi import HTTPException

from guest import http_errors


def test_a_vllm_without_such_an_error_answers_with_fastapis(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert http_errors.GracefulHTTPError is vllm.exceptions.GracefulHTTPError
    monkeypatch.delattr(vllm.exceptions, "GracefulHTTPError")
    ours = runpy.run_path(http_errors.__file__)["GracefulHTTPError"]
    assert issubclass(ours, HTTPException)
    error: Any = ours("the registry is away", 503)
    assert (error.status_code, error.http_status, str(error)) == (503, 503, "the registry is away")
