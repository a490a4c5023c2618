"""Spare files: a lock that has ended becomes the next one, and without any there are locks too."""

import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from registry.storage.file_locks import FileLocks
from registry.storage.spare_files import MOST_SPARE, SpareFiles


@pytest.fixture
def spares(tmp_path: Path) -> SpareFiles:
    made = SpareFiles(tmp_path / "spare")
    made.open()
    return made


def locks_in(folder: Path, spares: SpareFiles) -> FileLocks:
    made = FileLocks(folder, spares)
    made.open()
    return made


def test_a_lock_that_has_ended_becomes_the_next_one(tmp_path: Path, spares: SpareFiles) -> None:
    first, second = (locks_in(tmp_path / name, spares) for name in ("a", "b"))
    lock = first.lock_shared("one")
    made = (tmp_path / "a" / "one.lock").stat().st_ino
    lock.release()
    assert first.names() == set()
    with second.lock("two"):
        assert (tmp_path / "b" / "two.lock").stat().st_ino == made
        assert second.try_lock("two") is None
        assert list((tmp_path / "spare").iterdir()) == []
        with first.lock("one"):
            assert (tmp_path / "a" / "one.lock").stat().st_ino != made


def test_a_file_that_is_there_is_taken(tmp_path: Path, spares: SpareFiles) -> None:
    locks = locks_in(tmp_path / "a", spares)
    locks.lock_shared("left").abandon()
    locks.lock_shared("other").release()
    left = (tmp_path / "a" / "left.lock").stat().st_ino
    with locks.lock("left"):
        assert (tmp_path / "a" / "left.lock").stat().st_ino == left
    assert locks.names() == set()


def test_a_spare_file_that_another_process_has_deleted_is_none(
    tmp_path: Path, spares: SpareFiles
) -> None:
    locks = locks_in(tmp_path / "a", spares)
    locks.lock("one").release()
    SpareFiles(tmp_path / "spare").open()
    assert list((tmp_path / "spare").iterdir()) == []
    with locks.lock("two"):
        assert locks.names() == {"two"}
    shutil.rmtree(tmp_path / "spare")
    for name in ("three", "four"):
        locks.lock(name).release()
    assert locks.names() == set()


def test_no_more_are_kept_than_may_be_needed(tmp_path: Path, spares: SpareFiles) -> None:
    locks = locks_in(tmp_path / "a", spares)
    held = [locks.lock(str(number)) for number in range(MOST_SPARE + 3)]
    for lock in held:
        lock.release()
    assert locks.names() == set()
    assert len(list((tmp_path / "spare").iterdir())) == MOST_SPARE


def test_who_waits_for_a_lock_does_not_wait_for_what_its_file_has_become(
    tmp_path: Path, spares: SpareFiles
) -> None:
    locks = locks_in(tmp_path / "a", spares)
    for number in range(30):
        with ThreadPoolExecutor(1) as waiting:
            held = locks.lock("files")
            waiter = waiting.submit(locks.lock_shared, "files")
            time.sleep(0.01)
            held.release()
            with locks.try_lock(f"job-{number}") or pytest.fail("nobody has it"):
                waiter.result(timeout=5).release()


def test_a_file_is_spare_once_nobody_holds_it(tmp_path: Path, spares: SpareFiles) -> None:
    locks = locks_in(tmp_path / "a", spares)

    def hold(thread: int) -> int:
        """How often a lock that nobody else asks for seemed to be held."""
        held = 0
        for number in range(500):
            lock = locks.try_lock(f"{thread}-{number}")
            if lock is None:
                held += 1
            else:
                lock.release()
        return held

    with ThreadPoolExecutor(4) as threads:
        assert sum(threads.map(hold, range(4))) == 0
