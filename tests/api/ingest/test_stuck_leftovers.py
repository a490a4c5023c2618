"""Leftovers in the store that can not be removed: neither jobs nor other leftovers wait."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from registry.models.job import Job
from tests.support.servers.registry_in_loop import running_registry

AdapterMaker = Callable[..., Path]

STUCK = "7" * 32
OTHERS = [letter * 32 for letter in "0123456abcdef"]  # in some order before it and after it


@pytest.mark.parametrize("where", ["quarantine", "arriving"])
async def test_jobs_run_and_all_else_is_removed(
    database_url: str,
    tmp_path: Path,
    base_model: Any,
    make_adapter: AdapterMaker,
    where: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As a lock's file of another user, or of a network file system that renamed it."""
    folder = tmp_path / "store" / where
    async with running_registry(database_url, tmp_path, base_model, works=False):
        (folder / f"{STUCK}.lock").mkdir()
        for name in OTHERS:
            (folder / f"{name}.lock").touch()
    async with running_registry(database_url, tmp_path, base_model, max_direct_bytes=0) as registry:
        queued = await registry.register("bot", make_adapter("a"))
        assert queued.status_code == 202, queued.text
        async with asyncio.timeout(20):
            while (await registry.job(queued.json()["id"]))["state"] != "succeeded":
                await asyncio.sleep(0.02)
            while len(list(folder.iterdir())) > 1:
                await asyncio.sleep(0.02)
        assert [path.name for path in folder.iterdir()] == [f"{STUCK}.lock"]
    assert f"cleanup waits: the store can't be swept, at {STUCK}: " in caplog.text


async def test_a_job_whose_workspace_can_not_be_opened_keeps_no_other_waiting(
    database_url: str, tmp_path: Path, base_model: Any, make_adapter: AdapterMaker
) -> None:
    folder = make_adapter("a")
    async with running_registry(
        database_url, tmp_path, base_model, works=False, max_direct_bytes=0
    ) as registry:
        numbers = [(await registry.register(n, folder)).json()["id"] for n in ("one", "two")]
        async with registry.service._database.transaction() as session:
            first = await session.get_one(Job, numbers[0])
            obstacle = tmp_path / "store" / "quarantine" / f"{first.workspace}.lock"
        obstacle.mkdir()
    async with running_registry(database_url, tmp_path, base_model) as registry:
        assert (await registry.end_of(numbers[1]))["state"] == "succeeded"
        assert (await registry.job(numbers[0]))["state"] == "queued"
        obstacle.rmdir()
        assert (await registry.end_of(numbers[0]))["state"] == "succeeded"
