"""`client.jobs`: background registration jobs."""

from collections.abc import Callable
from typing import TypeVar

from adaptry.client.models import JobRead, JobsCancelled, JobState
from adaptry.client.transport.operations import Resource, composite, operation, pages
from adaptry.client.transport.requests import Parameters, Pause, QueryValue, RequestFlow

T_co = TypeVar("T_co", covariant=True)

UNFINISHED = frozenset({"receiving", "queued", "running"})
POLL_SECONDS = 0.2

OnJob = Callable[[JobRead], None]


class Jobs(Resource[T_co]):
    """Follow jobs and cancel them."""

    @pages("/api/v1/jobs", JobRead)
    def list(
        self,
        *,
        state: JobState | None = None,
        adapter: str | None = None,
        tenant: str | None = None,
        page_size: int = 100,
    ) -> Parameters:
        """All jobs, running and ended, the newest first."""
        wanted: dict[str, QueryValue] = {"state": state, "adapter": adapter, "tenant": tenant}
        return Parameters(query={**wanted, "limit": page_size})

    @operation("GET", "/api/v1/jobs/{number}", JobRead)
    def get(self, number: int) -> Parameters:
        """One job: its progress, or how it ended."""
        return Parameters({"number": number})

    @operation("POST", "/api/v1/jobs/{number}/cancel", JobRead)
    def cancel(self, number: int) -> Parameters:
        """Request cancellation. A running job is `cancelled` once its work has stopped."""
        return Parameters({"number": number})

    @operation("POST", "/api/v1/jobs/cancel", JobsCancelled)
    def cancel_some(
        self,
        *,
        state: JobState | None = None,
        adapter: str | None = None,
        tenant: str | None = None,
    ) -> Parameters:
        """Request cancellation of the jobs that match, up to 500 at a time; `more` may follow."""
        return Parameters(query={"state": state, "adapter": adapter, "tenant": tenant})

    @composite
    def cancel_all(
        self,
        *,
        state: JobState | None = None,
        adapter: str | None = None,
        tenant: str | None = None,
    ) -> RequestFlow[int]:
        """Request cancellation of all unfinished jobs that match; how many those were."""
        count = 0
        while True:
            done = yield from Jobs.cancel_some.function(
                self, state=state, adapter=adapter, tenant=tenant
            )
            count += done.cancelled
            if not done.more:
                return count

    @composite
    def wait(
        self, number: int, *, on_job: OnJob | None = None, look_seconds: float = POLL_SECONDS
    ) -> RequestFlow[JobRead]:
        """Poll a job until it has ended, in whatever state; `on_job` is called with each poll."""
        while True:
            job = yield from Jobs.get.function(self, number)
            if on_job is not None:
                on_job(job)
            if job.state not in UNFINISHED:
                return job
            yield Pause(look_seconds)
