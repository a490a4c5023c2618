"""Outcomes of registrations, for metrics."""

import time
from asyncio import CancelledError
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from registry.errors import RegistryError
from registry.models.job import Job, JobState


@dataclass(frozen=True, slots=True)
class IngestOutcome:
    """`seconds`: since it was requested. `size_bytes`: fetched so far.

    `code`: of the problem, if it failed.
    """

    outcome: JobState
    seconds: float
    size_bytes: int
    code: str | None = None


OutcomeObserver = Callable[[IngestOutcome], None]


def null_outcome_observer(outcome: IngestOutcome) -> None:
    return


@contextmanager
def observe_outcome(observer: OutcomeObserver) -> Iterator[Callable[[int], None]]:
    """Report the outcome of a registration in the block, which sets its size."""
    began = time.monotonic()
    size_bytes = 0

    def set_size(count: int) -> None:
        nonlocal size_bytes
        size_bytes = count

    def report(outcome: JobState, code: str | None = None) -> None:
        observer(IngestOutcome(outcome, time.monotonic() - began, size_bytes, code))

    try:
        yield set_size
    except RegistryError as error:
        report(JobState.FAILED, error.code)
        raise
    except CancelledError:
        report(JobState.CANCELLED)
        raise
    except Exception:
        report(JobState.FAILED, "internal_error")
        raise
    report(JobState.SUCCEEDED)


def outcome_of(job: Job) -> IngestOutcome | None:
    """None while the job is unfinished."""
    if job.finished_at is None:
        return None
    seconds = (job.finished_at - job.created_at).total_seconds()
    code = job.code if job.state == JobState.FAILED else None
    return IngestOutcome(JobState(job.state), max(seconds, 0.0), job.bytes_done, code)
