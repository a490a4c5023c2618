"""Engine fit: compares a version with what this engine serves, before it is loaded.

A version is checked when it is registered, but the engine that loads it may be another one. What
does not fit is refused by this engine, with the inspection's code, and stays as it is for others.
"""

from collections.abc import Callable
from pathlib import Path

from cachetools import LRUCache

from engine.cache.loader import AdapterFiles
from engine.errors import AdapterLoadFailed, AdapterUnfit, EngineUnavailable, LoadsStalled
from engine.load_threads import LoadThreads, ThreadsStalled
from engine.types import AdapterVersion, LoadFailure
from registry.errors import EngineAway, InvalidAdapter
from registry.errors.defects import Defect
from registry.inspection.fit import rank_problem

_REMEMBERED = 4096

FindMisfit = Callable[[Path], InvalidAdapter | None]
"""See `registry.inspection.fit.find_misfit`, for this engine's base model and rank."""


class EngineFit:
    """The checks before a load, in two steps: by the registry's facts, then by the files."""

    def __init__(self, max_rank: int) -> None:
        self._max_rank = max_rank

    def check(self, version: AdapterVersion) -> None:
        """By the registry's facts: before the request waits. Raises AdapterUnfit."""
        if (problem := rank_problem(version.rank, self._max_rank)) is not None:
            raise _unfit(version, problem)


class FittingFiles:
    """Implements the `AdapterFiles` port: verified files whose modules this engine serves.

    Only the configuration and the header are read, once for each content.
    """

    def __init__(self, files: AdapterFiles, find_misfit: FindMisfit) -> None:
        self._files = files
        self._find_misfit = find_misfit
        self._fitting = LRUCache[str, None](_REMEMBERED)
        self._threads = LoadThreads("adaptry-fit")

    async def verify(self, version: AdapterVersion) -> AdapterVersion:
        """Raises AdapterLoadFailed, AdapterUnfit for what this engine lacks; EngineUnavailable."""
        verified = await self._files.verify(version)
        if verified.digest not in self._fitting:
            await self._check(verified)
            self._fitting[verified.digest] = None
        return verified

    async def _check(self, version: AdapterVersion) -> None:
        try:
            find, folder = self._find_misfit, Path(version.path)
            problem = await self._threads.run(version.digest, find, folder)
        except ThreadsStalled as error:
            raise LoadsStalled(version.reference, str(error)) from error
        except InvalidAdapter as error:  # not an adapter's, though verified a moment ago
            raise AdapterLoadFailed(version.reference, error.detail, LoadFailure.FILES) from error
        except EngineAway as error:
            raise EngineUnavailable(error.detail) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise AdapterLoadFailed(version.reference, reason, LoadFailure.IO) from error
        if problem is not None:
            raise _unfit(version, problem)


def _unfit(version: AdapterVersion, problem: InvalidAdapter) -> AdapterUnfit:
    by_rank = problem.code == Defect.RANK_TOO_LARGE
    failure = LoadFailure.RANK if by_rank else LoadFailure.MODULES
    return AdapterUnfit(version.reference, problem.detail, failure, problem.code)
