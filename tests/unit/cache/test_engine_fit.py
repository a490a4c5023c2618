"""Engine fit: what another engine registered is compared with this one before its files load."""

from pathlib import Path

import pytest

from engine.engine_fit import FittingFiles
from engine.errors import AdapterLoadFailed, AdapterUnfit, EngineUnavailable
from engine.fake_backend import UncheckedFiles
from engine.types import LoadFailure
from registry.errors import EngineAway, InvalidAdapter
from registry.errors.defects import Defect
from tests.support.cache.controller_harness import A, B

UNSERVED = InvalidAdapter(Defect.MODULE_NOT_SERVED, "no such module here")
TOO_LARGE = InvalidAdapter(Defect.RANK_TOO_LARGE, "rank 64, and 16 are served")


class Finder:
    """`find_misfit` of a registrar, which says `found` of each folder, or raises it."""

    def __init__(self, found: InvalidAdapter | None, raised: Exception | None = None) -> None:
        self._found = found
        self._raised = raised
        self.asked: list[Path] = []

    def __call__(self, folder: Path) -> InvalidAdapter | None:
        self.asked.append(folder)
        if self._raised is not None:
            raise self._raised
        return self._found


@pytest.mark.parametrize(
    ("problem", "failure"), [(UNSERVED, LoadFailure.MODULES), (TOO_LARGE, LoadFailure.RANK)]
)
async def test_what_this_engine_does_not_serve_is_refused_with_the_inspections_code(
    problem: InvalidAdapter, failure: LoadFailure
) -> None:
    files = FittingFiles(UncheckedFiles(), Finder(problem))
    with pytest.raises(AdapterUnfit, match=problem.detail) as refused:
        await files.verify(A)
    assert (refused.value.code, refused.value.failure) == (problem.code, failure)
    assert failure is not LoadFailure.FILES, "no reason to examine the files"


async def test_files_are_compared_once_for_each_content() -> None:
    finder = Finder(None)
    files = FittingFiles(UncheckedFiles(), finder)
    for version in (A, A, B):
        assert await files.verify(version) == version
    assert finder.asked == [Path(A.path), Path(B.path)]


@pytest.mark.parametrize(
    ("raised", "failure"),
    [(UNSERVED, LoadFailure.FILES), (OSError("no such disk"), LoadFailure.IO)],
)
async def test_what_can_not_be_read_fails_and_is_compared_again(
    raised: Exception, failure: LoadFailure
) -> None:
    finder = Finder(None, raised)
    files = FittingFiles(UncheckedFiles(), finder)
    for _ in range(2):
        with pytest.raises(AdapterLoadFailed) as failed:
            await files.verify(A)
        assert failed.value.failure is failure
    assert len(finder.asked) == 2


async def test_an_engine_that_can_not_be_asked_decides_nothing() -> None:
    files = FittingFiles(UncheckedFiles(), Finder(None, EngineAway("it is being replaced")))
    with pytest.raises(EngineUnavailable, match="being replaced"):
        await files.verify(A)
