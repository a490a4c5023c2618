"""Ray's environment: what every process of a fleet on this machine inherits."""

import os

import pytest

from fleet.ray.launch import prepare_environment


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})


def test_each_start_has_a_token_of_its_own() -> None:
    """Ray's own is made once, and anyone who can read the home folder can read it."""
    tokens = set()
    for _ in range(2):
        os.environ.clear()
        prepare_environment("sqlite:///x")
        assert os.environ["RAY_AUTH_MODE"] == "token"
        tokens.add(os.environ["RAY_AUTH_TOKEN"])
    assert len(tokens) == 2
    assert {len(token) for token in tokens} == {64}


def test_a_token_that_was_given_stays() -> None:
    os.environ["RAY_AUTH_TOKEN"] = "given"
    prepare_environment("sqlite:///x")
    assert os.environ["RAY_AUTH_TOKEN"] == "given"
    os.environ.clear()
    os.environ["RAY_AUTH_TOKEN_PATH"] = "/run/secrets/ray"
    prepare_environment("sqlite:///x")
    assert "RAY_AUTH_TOKEN" not in os.environ
