"""Spare files: a lock that has ended becomes the next one, and without any there are locks too."""

import shutil
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
