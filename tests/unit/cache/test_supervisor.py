"""The supervisor: engines that die, hang or fail to start are replaced."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from engine.errors import EngineUnavailable
from engine.fake_backend import FakeBackend
from engine.ports import Backend
from engine.vllm import supervisor as module
from engine.vllm.supervisor import EngineSupervisor
from tests.support.cache.controller_harness import A, until


class MortalProcess:
    """Dies when its event is set."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.fake = FakeBackend(slots=1, host_capacity=1)
        self.dies = asyncio.Event()
        self.stopped = False
        self.was_shut_down = False
        self.suspended: EngineUnavailable | None = None
        self.sleeps = False

    @property
    def backend(self) -> Backend:
        return self.fake

    @property
    def is_dead(self) -> bool:
        return self.dies.is_set()

    async def wait_for_death(self) -> str:
        await self.dies.wait()
        return "a signal"

    def shut_down(self, timeout_seconds: float | None) -> None:
        self.was_shut_down = True
        self.dies.set()

    def kill(self) -> None:
        self.dies.set()

    async def stop(self) -> None:
        self.stopped = True


class Story:
    """Starts processes and logs what happens to them."""

    def __init__(self) -> None:
        self.processes: list[MortalProcess] = []
        self.log: list[str] = []
        self.failing_starts = 0
        self.supervisor: EngineSupervisor[MortalProcess] = EngineSupervisor(self.start, self)

    async def start(self) -> MortalProcess:
        if self.processes and self.failing_starts:
            self.failing_starts -= 1
            self.log.append("did not start")
            raise RuntimeError("no memory")
        self.processes.append(MortalProcess(len(self.processes)))
        return self.processes[-1]

    def count_engine_end(self, cause: str) -> None:
        self.log.append(cause)

    async def on_engine_lost(self, why: EngineUnavailable) -> None:
        assert not self.processes[-1].stopped, "the old one is still needed to fail its requests"
        assert why.retry_after_seconds is not None
        self.log.append("lost")

    async def on_engine_ready(self) -> None:
        assert self.supervisor.process is self.processes[-1]
        self.log.append("ready")


@asynccontextmanager
async def supervised(story: Story) -> AsyncIterator[asyncio.Task[None]]:
    await story.supervisor.start()
    task = asyncio.create_task(story.supervisor.run(story))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await story.supervisor.stop()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PAUSES_SECONDS", (0.0, 0.001, 0.001))


END: dict[str, Callable[[Story], None]] = {
    "died": lambda story: story.processes[-1].dies.set(),
    "hung": lambda story: story.supervisor.report_silence(),
}


@pytest.mark.parametrize("cause", END)
async def test_an_engine_that_ends_is_replaced(cause: str) -> None:
    story = Story()
    async with supervised(story):
        await story.supervisor.load(A)
        END[cause](story)
        await until(lambda: story.log == [cause, "lost", "ready"])
        assert story.processes[0].stopped
        assert [process.fake.loads for process in story.processes] == [[A.id], []]
        await story.supervisor.load(A)
        assert story.processes[1].fake.loads == [A.id]
    assert story.processes[1].stopped


async def test_every_engine_may_end() -> None:
    story = Story()
    async with supervised(story):
        for _ in range(3):
            before = len(story.processes)
            story.processes[-1].dies.set()
            await until(
                lambda before=before: len(story.processes) > before and story.log[-1] == "ready"
            )
    assert story.log == ["died", "lost", "ready"] * 3


async def test_an_engine_that_was_shut_down_is_not_replaced() -> None:
    """The server stops; requests that wait for a slot fail immediately."""
    story = Story()
    async with supervised(story) as task:
        assert story.supervisor.unavailable is None
        await asyncio.to_thread(story.supervisor.shut_down, 5)
        assert "is being stopped" in str(story.supervisor.unavailable), "before it has ended"
        await until(lambda: story.processes[0].stopped)
        await asyncio.sleep(0.05)
        assert story.log == ["lost"]
        assert len(story.processes) == 1
        assert not task.done()


async def test_between_two_engines_it_is_unavailable() -> None:
    story = Story()
    async with supervised(story):
        story.failing_starts = 1
        module_pause = asyncio.Event()

        async def wait_to_start() -> MortalProcess:
            await module_pause.wait()
            return await Story.start(story)

        story.supervisor._start_process = wait_to_start
        story.processes[-1].dies.set()
        await until(lambda: story.log == ["died", "lost"])
        for call in (
            story.supervisor.load(A),
            story.supervisor.apply([]),
            story.supervisor.engine_state(),
        ):
            with pytest.raises(EngineUnavailable):
                await call
        story.supervisor.discard(A.id)  # does nothing, and is no error
        module_pause.set()
        await until(lambda: story.log[-1] == "ready")


async def test_a_failed_start_is_retried() -> None:
    story = Story()
    async with supervised(story):
        story.failing_starts = 2
        story.processes[-1].dies.set()
        await until(
            lambda: story.log == ["died", "lost", "did not start", "did not start", "ready"]
        )


async def test_it_gives_up_in_the_end() -> None:
    story = Story()
    async with supervised(story) as task:
        story.failing_starts = 99
        story.processes[-1].dies.set()
        with pytest.raises(EngineUnavailable, match="did not start in 3 attempts"):
            await task


async def test_a_failed_first_start_reports_the_cause() -> None:
    async def start() -> MortalProcess:
        raise RuntimeError("no such model")

    supervisor: EngineSupervisor[MortalProcess] = EngineSupervisor(start, Story())
    with pytest.raises(RuntimeError, match="no such model"):
        await supervisor.start()
    await supervisor.stop()


async def test_the_current_engine_is_shut_down_and_not_replaced() -> None:
    story = Story()
    async with supervised(story):
        story.processes[-1].dies.set()
        await until(lambda: story.log == ["died", "lost", "ready"])
        await asyncio.to_thread(story.supervisor.shut_down, 5)
        assert [process.was_shut_down for process in story.processes] == [False, True]
        assert "is being stopped" in str(story.supervisor.unavailable)
        await until(lambda: story.processes[1].stopped)
        assert len(story.processes) == 2


async def test_a_second_signal_kills_the_engine_that_still_generates() -> None:
    story = Story()
    await story.supervisor.start()
    assert not story.processes[-1].is_dead
    story.supervisor.kill()
    assert story.processes[-1].is_dead
    await story.supervisor.stop()
    story.supervisor.kill()  # no engine is left, and that is no error
