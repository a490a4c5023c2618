"""Places of jobs: a few that move, beside which those stand whose source sends nothing."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from registry.ingest.repository import DueJob
from registry.ingest.runner import JobRun
from registry.models.job import JobStep
from registry.places import Places

STILL_SECONDS = 10.0  # without a byte from its source
MAX_STILL = 16


class JobPlaces:
    """A job of the queue gets a place; one that stands still leaves it to others, for good.

    So folders on a disk that hangs, or a server that sends nothing, hold up the jobs of their owner
    only. If it moves again it runs beside the others: an owner has at most half of the places for
    these, and gets no further place while it has.

    An owner is a tenant, or what the platform reads from. Small uploads have none: they end soon.
    """

    def __init__(self, count: int, on_change: Callable[[], None]) -> None:
        """`on_change` is called when a place has become free."""
        self._moving = Places(count)
        self._still = Places(MAX_STILL)
        self._on_change = on_change

    @property
    def has_any(self) -> bool:
        return self._moving.has_place(None)

    def has_place(self, job: DueJob, *, is_short: bool) -> bool:
        if is_short:
            return self._moving.has_place(None)
        return self._moving.has_place(job.tenant) and self._still.has_place(job.owner)

    def take(self, job: DueJob, *, is_short: bool) -> "HeldPlace":
        """Take a place, even if there is none: check before."""
        tenant = None if is_short else job.tenant
        self._moving.take(tenant)
        return HeldPlace(self, tenant, None if is_short else job.owner)

    def give_back(self, held: "HeldPlace") -> None:
        if held.is_still:
            self._still.give_back(held.owner)
        else:
            self._moving.give_back(held.tenant)

    def stand_aside(self, held: "HeldPlace") -> bool:
        """Leave the place to others; False if the owner has its share of those that stand."""
        if not self._still.has_place(held.owner):
            return False
        self._moving.give_back(held.tenant)
        self._still.take(held.owner)
        held.is_still = True
        self._on_change()
        return True


class HeldPlace:
    """The place of one job, until it has ended."""

    def __init__(self, places: JobPlaces, tenant: str | None, owner: str | None) -> None:
        self._places = places
        self.tenant = tenant
        self.owner = owner
        self.is_still = False

    @contextmanager
    def watched(self, run: JobRun) -> Iterator[None]:
        """Give it back at the block's end, or stand aside before."""
        watching = asyncio.create_task(self._watch(run)) if self.owner is not None else None
        try:
            yield
        finally:
            if watching is not None:
                watching.cancel()
            self._places.give_back(self)

    async def _watch(self, run: JobRun) -> None:
        while True:
            before = run.progress.bytes_done
            await asyncio.sleep(STILL_SECONDS)
            is_still = run.step == JobStep.FETCHING and run.progress.bytes_done == before
            if is_still and self._places.stand_aside(self):
                return
