"""Thread limits of an engine on a CPU: OpenMP's, and numba's, which would raise OpenMP's again."""

import os

import pytest

from adaptry.serve.modes import limit_threads

LIMITS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")


@pytest.fixture(autouse=True)
def none_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LIMITS:
        monkeypatch.setenv(name, "")  # is put back as it was
        monkeypatch.delenv(name)


def limits() -> list[str]:
    return [os.environ[name] for name in LIMITS]


@pytest.mark.parametrize(("cores", "engines", "threads"), [(2, 1, "1"), (12, 1, "6"), (12, 2, "4")])
def test_numba_has_as_many_as_openmp(
    monkeypatch: pytest.MonkeyPatch, cores: int, engines: int, threads: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    limit_threads(engines=engines)
    assert limits() == [threads, threads]


def test_what_an_operator_gives_for_openmp_holds_for_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    limit_threads(engines=1)
    assert limits() == ["3", "3"]


def test_what_an_operator_gives_for_numba_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    limit_threads(engines=7)
    assert limits()[1] == "2"
