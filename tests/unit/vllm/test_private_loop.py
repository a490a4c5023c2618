"""Private loop of the offline `LLM`: in a script, and within another loop, as in a notebook."""

import asyncio

import pytest

from engine.offline.private_loop import PrivateLoop


def use(loop: PrivateLoop) -> list[str]:
    """As the offline engine does: a task goes on whenever the loop runs."""
    done: list[str] = []
    go_on = asyncio.Event()

    async def work() -> None:
        await go_on.wait()
        done.append("worked")

    async def begin() -> asyncio.AbstractEventLoop:
        done.append("begun" if loop.is_running else "not running")
        return asyncio.get_running_loop()

    private = loop.run(begin())
    loop.create_task(work())
    loop.run_between(asyncio.sleep(0))
    go_on.set()
    assert not loop.is_running
    loop.run_between(asyncio.sleep(0))
    assert loop.run(begin()) is private
    return done


def test_it_runs_in_a_script() -> None:
    loop = PrivateLoop()
    assert use(loop) == ["begun", "worked", "begun"]
    loop.close()


async def test_it_runs_within_another_loop_which_goes_on_behind_it() -> None:
    outer = asyncio.get_running_loop()
    beside = asyncio.create_task(asyncio.sleep(0))
    loop = PrivateLoop()
    assert use(loop) == ["begun", "worked", "begun"]
    with pytest.raises(RuntimeError, match="broken on purpose"):
        loop.run(fail())
    assert asyncio.get_running_loop() is outer
    assert not beside.done()
    await beside
    loop.close()
    assert asyncio.get_running_loop() is outer


async def fail() -> None:
    raise RuntimeError("broken on purpose")
