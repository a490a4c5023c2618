"""Ray's environment: what every process of a fleet on this machine inherits."""

import os

import pytest

from fleet.ray.launch import _start_ray, prepare_environment


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


class SlowRay:
    """Gives itself up some times before it starts, as on a machine that is busy."""

    def __init__(self, times: int, why: str) -> None:
        self.left, self.why, self.stopped = times, why, 0

    def init(self, **options: object) -> None:
        if self.left:
            self.left -= 1
            raise Exception(self.why)  # Ray's own class

    def shutdown(self) -> None:
        self.stopped += 1


def test_ray_is_started_again_where_it_took_too_long() -> None:
    ray = SlowRay(2, "The current node timed out during startup. This could happen because ...")
    _start_ray(ray)
    assert ray.stopped == 2
    with pytest.raises(Exception, match="timed out"):
        _start_ray(SlowRay(3, ray.why))
    ray = SlowRay(1, "no space left on device")
    with pytest.raises(Exception, match="no space"):
        _start_ray(ray)
    assert ray.stopped == 1
