"""File locks: one holder at a time, released when a process dies, and no file left behind."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.storage.file_locks import FileLocks
from registry.storage.spare_files import SpareFiles

ROOT = Path(__file__).resolve().parents[3]
HOLD = (
    "import pathlib, sys\n"
    "from registry.storage.file_locks import FileLocks\n"
    "locks = FileLocks(pathlib.Path(sys.argv[1]))\n"
    "lock = locks.try_lock('a') if sys.argv[2] == 'take' else locks.lock_shared('a')\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture(params=["new files", "spare files"])
def locks(tmp_path: Path, request: pytest.FixtureRequest) -> FileLocks:
    spares = SpareFiles(tmp_path / "spare") if request.param == "spare files" else None
    made = FileLocks(tmp_path / "locks", spares)
    made.open()
    if spares is not None:
        spares.open()
    return made


@pytest.fixture
def other(locks: FileLocks, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `a`."""
    process = holder(tmp_path, "take")
    yield process
    process.kill()
    process.communicate()


def holder(folder: Path, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "locks"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_lock_has_one_holder(locks: FileLocks) -> None:
    first = locks.try_lock("a")
    assert first is not None
    assert locks.try_lock("a") is None
    other = locks.try_lock("b")
    assert other is not None
    first.release()
    with locks.try_lock("a") or pytest.fail("it was released"):
        assert locks.try_lock("a") is None
    other.release()
    assert locks.names() == set()


def test_several_share_a_lock_and_none_gets_it_exclusively_meanwhile(locks: FileLocks) -> None:
    first, second = locks.lock_shared("a"), locks.lock_shared("a")
    assert locks.try_lock("a") is None
    first.release()
    assert locks.names() == {"a"}, "the second one still holds it"
    assert locks.try_lock("a") is None
    second.release()
    assert locks.names() == set()


def test_sharing_waits_for_an_exclusive_holder(locks: FileLocks) -> None:
    alone = locks.try_lock("a")
    assert alone is not None
    shared, done = threading.Event(), threading.Event()

    def share() -> None:
        with locks.lock_shared("a"):
            shared.set()
            assert done.wait(10)

    thread = threading.Thread(target=share)
    thread.start()
    assert not shared.wait(0.2)
    alone.release()
    assert shared.wait(10)
    assert locks.try_lock("a") is None, "it waited for a deleted file, and holds the new one"
    done.set()
    thread.join()
    assert locks.names() == set()


def test_an_abandoned_lock_is_listed_and_can_be_taken(locks: FileLocks) -> None:
    locks.lock_shared("a").abandon()
    assert locks.names() == {"a"}
    lock = locks.try_lock("a")
    assert lock is not None
    lock.release()
    assert locks.names() == set()


def test_a_child_that_was_forked_off_holds_nothing_for_its_parent(
    locks: FileLocks, tmp_path: Path
) -> None:
    """An engine may be forked off at any time, with all that is open then."""
    program = (
        "import os, pathlib, sys, time\n"
        "from registry.storage.file_locks import FileLocks\n"
        "locks = FileLocks(pathlib.Path(sys.argv[1]))\n"
        "taken, shared = locks.try_lock('a'), locks.lock_shared('b')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "taken.release()\n"
        "shared.abandon()\n"
        "free = [locks.try_lock('a') is not None, locks.try_lock('b') is not None]\n"
        "os.kill(child, 9)\n"
        "print(free)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "locks")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == "[True, True]\n"


def test_another_process_holds_it_until_it_is_killed(
    locks: FileLocks, other: subprocess.Popen[str]
) -> None:
    assert locks.try_lock("a") is None
    other.kill()
    other.wait()
    assert locks.names() == {"a"}, "its file is left as evidence"
    with locks.try_lock("a") or pytest.fail("a dead process holds nothing"):
        pass
    assert locks.names() == set()


def test_a_killed_process_holds_no_shared_lock_either(locks: FileLocks, tmp_path: Path) -> None:
    process = holder(tmp_path, "share")
    assert locks.try_lock("a") is None
    process.kill()
    process.communicate()
    with locks.try_lock("a") or pytest.fail("a dead process holds nothing"):
        pass
