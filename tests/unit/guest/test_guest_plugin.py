"""The guest's plugin in vLLM's process."""

import pytest
from vllm import envs

from guest.plugin import SKIPS_NAMES, _check_every_name


def test_no_variable_lets_the_base_model_answer_for_the_registrys_names(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(SKIPS_NAMES, "1")
    assert envs.VLLM_SKIP_MODEL_NAME_VALIDATION is True
    _check_every_name()
    assert envs.VLLM_SKIP_MODEL_NAME_VALIDATION is False
    (record,) = caplog.records
    assert SKIPS_NAMES in record.getMessage()
