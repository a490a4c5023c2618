"""Claims: one holder at a time, let go of by the dead, and no file left behind."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.storage.file_locks import FileLocks

ROOT = Path(__file__).resolve().parents[3]
HOLD = (
    "import pathlib, sys\n"
    "from registry.storage.file_locks import Claims\n"
    "claims = Claims(pathlib.Path(sys.argv[1]))\n"
    "claim = claims.take('a') if sys.argv[2] == 'take' else claims.share('a')\n"
    "print('held', flush=True)\n"
    "sys.stdin.read()\n"
)


@pytest.fixture
def claims(tmp_path: Path) -> FileLocks:
    made = FileLocks(tmp_path / "claims")
    made.open()
    return made


@pytest.fixture
def other(claims: FileLocks, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `a`."""
    process = holder(tmp_path, "take")
    yield process
    process.kill()
    process.communicate()


def holder(folder: Path, how: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "claims"), how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_name_has_one_holder(claims: FileLocks) -> None:
    first = claims.try_lock("a")
    assert first is not None
    assert claims.try_lock("a") is None
    other = claims.try_lock("b")
    assert other is not None
    first.release()
    with claims.try_lock("a") or pytest.fail("it was let go of"):
        assert claims.try_lock("a") is None
    other.release()
    assert claims.names() == set()


def test_several_share_a_name_and_nobody_takes_it_meanwhile(claims: FileLocks) -> None:
    first, second = claims.lock_shared("a"), claims.lock_shared("a")
    assert claims.try_lock("a") is None
    first.release()
    assert claims.names() == {"a"}, "the second one still holds it"
    assert claims.try_lock("a") is None
    second.release()
    assert claims.names() == set()


def test_sharing_waits_for_one_who_has_it_alone(claims: FileLocks) -> None:
    alone = claims.try_lock("a")
    assert alone is not None
    shared, done = threading.Event(), threading.Event()

    def share() -> None:
        with claims.lock_shared("a"):
            shared.set()
            assert done.wait(10)

    thread = threading.Thread(target=share)
    thread.start()
    assert not shared.wait(0.2)
    alone.release()
    assert shared.wait(10)
    assert claims.try_lock("a") is None, "it waited for a file that is gone, and holds the new one"
    done.set()
    thread.join()
    assert claims.names() == set()


def test_what_was_abandoned_is_seen_and_can_be_taken(claims: FileLocks) -> None:
    claims.lock_shared("a").abandon()
    assert claims.names() == {"a"}
    claim = claims.try_lock("a")
    assert claim is not None
    claim.release()
    assert claims.names() == set()


def test_a_child_that_was_forked_off_holds_nothing_for_its_parent(
    claims: FileLocks, tmp_path: Path
) -> None:
    """An engine may be forked off at any time, with all that is open then."""
    program = (
        "import os, pathlib, sys, time\n"
        "from registry.storage.file_locks import Claims\n"
        "claims = Claims(pathlib.Path(sys.argv[1]))\n"
        "taken, shared = claims.take('a'), claims.share('b')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    time.sleep(30)\n"
        "    os._exit(0)\n"
        "taken.release()\n"
        "shared.abandon()\n"
        "free = [claims.take('a') is not None, claims.take('b') is not None]\n"
        "os.kill(child, 9)\n"
        "print(free)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "claims")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    assert done.stdout == "[True, True]\n"


def test_another_process_holds_it_until_it_is_killed(
    claims: FileLocks, other: subprocess.Popen[str]
) -> None:
    assert claims.try_lock("a") is None
    other.kill()
    other.wait()
    assert claims.names() == {"a"}, "its file is what tells of it"
    with claims.try_lock("a") or pytest.fail("the dead hold nothing"):
        pass
    assert claims.names() == set()


def test_a_killed_process_shares_nothing_either(claims: FileLocks, tmp_path: Path) -> None:
    process = holder(tmp_path, "share")
    assert claims.try_lock("a") is None
    process.kill()
    process.communicate()
    with claims.try_lock("a") or pytest.fail("the dead hold nothing"):
        pass
