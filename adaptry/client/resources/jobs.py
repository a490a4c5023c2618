"""`client.jobs`: registrations that take a while."""

from collections.abc import Callable
from typing import TypeVar

from adaptry.client.models import JobRead, JobState
from adaptry.client.transport.operations import Group, composed, operation, pages
from adaptry.client.transport.requests import Flow, Given, Pause

S_co = TypeVar("S_co", covariant=True)

UNFINISHED = frozenset({"receiving", "queued", "running"})
LOOK_SECONDS = 0.2

OnJob = Callable[[JobRead], None]


class Jobs(Group[S_co]):
    """Follow jobs and cancel them."""

    @pages("/api/v1/jobs", JobRead)
    def list(
        self,
        *,
        state: JobState | None = None,
        adapter: str | None = None,
        page_size: int = 100,
    ) -> Given:
        """What is and was registered as a job, the newest first."""
        return Given(query={"state": state, "adapter": adapter, "limit": page_size})

    @operation("GET", "/api/v1/jobs/{number}", JobRead)
    def get(self, number: int) -> Given:
        """How far it is, or how it ended."""
        return Given({"number": number})

    @operation("POST", "/api/v1/jobs/{number}/cancel", JobRead)
    def cancel(self, number: int) -> Given:
        """Ask for its end. A running job is `cancelled` as soon as its work has stopped."""
        return Given({"number": number})

    @composed
    def wait(
        self, number: int, *, on_job: OnJob | None = None, look_seconds: float = LOOK_SECONDS
    ) -> Flow[JobRead]:
        """Look at a job until it has ended, however that was; `on_job` is told of each look."""
        while True:
            job = yield from Jobs.get.tell(self, number)
            if on_job is not None:
                on_job(job)
            if job.state not in UNFINISHED:
                return job
            yield Pause(look_seconds)
