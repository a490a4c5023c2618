"""How an ingest ended, for whoever counts."""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from registry.errors import RegistryError
from registry.models.job import Job, JobState


@dataclass(frozen=True, slots=True)
class IngestEnd:
    """`seconds`: since it was asked for. `size_bytes`: what it had fetched.

    `code`: of the problem, if it failed.
    """

    outcome: JobState
    seconds: float
    size_bytes: int
    code: str | None = None


Ended = Callable[[IngestEnd], None]


def ignore_end(end: IngestEnd) -> None:
    return


@contextmanager
def ending(ended: Ended) -> Iterator[Callable[[int], None]]:
    """Tells how the block ended, which registers something; it says how many bytes that has."""
    began = time.monotonic()
    size_bytes = 0

    def fetched(count: int) -> None:
        nonlocal size_bytes
        size_bytes = count

    def tell(outcome: JobState, code: str | None = None) -> None:
        ended(IngestEnd(outcome, time.monotonic() - began, size_bytes, code))

    try:
        yield fetched
    except RegistryError as error:
        tell(JobState.FAILED, error.code)
        raise
    except CancelledError:
        tell(JobState.CANCELLED)
        raise
    except Exception:
        tell(JobState.FAILED, "internal_error")
        raise
    tell(JobState.SUCCEEDED)


def end_of(job: Job) -> IngestEnd | None:
    """None: it has not ended."""
    if job.finished_at is None:
        return None
    seconds = (job.finished_at - job.created_at).total_seconds()
    code = job.code if job.state == JobState.FAILED else None
    return IngestEnd(JobState(job.state), max(seconds, 0.0), job.bytes_done, code)
