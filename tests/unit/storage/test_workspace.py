"""Workspace: what it held of the store is released, or left for the cleanup to look at."""

from pathlib import Path

import pytest

from registry.storage.file_locks import FileLocks
from registry.storage.workspace import Workspace

DIGEST = "d" * 64


@pytest.fixture
def arriving(tmp_path: Path) -> FileLocks:
    locks = FileLocks(tmp_path / "arriving")
    locks.open()
    return locks


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    locks = FileLocks(tmp_path / "quarantine")
    locks.open()
    lock = locks.try_lock("one")
    assert lock is not None
    return Workspace(tmp_path / "quarantine" / "one", lock)


def test_files_that_a_version_has_are_on_their_way_no_more(
    workspace: Workspace, arriving: FileLocks
) -> None:
    workspace.hold(arriving.lock_shared(DIGEST))
    assert arriving.try_lock(DIGEST) is None
    workspace.has_version = True
    workspace.close()
    assert arriving.names() == set()


def test_files_without_a_version_are_left_to_the_cleanup(
    workspace: Workspace, arriving: FileLocks
) -> None:
    workspace.hold(arriving.lock_shared(DIGEST))
    workspace.close()
    assert arriving.names() == {DIGEST}
    assert arriving.try_lock(DIGEST) is not None


def test_a_lock_that_comes_after_the_end_is_held_by_nobody(
    workspace: Workspace, arriving: FileLocks
) -> None:
    """The thread that stored the files hung, and was given up."""
    workspace.close()
    workspace.hold(arriving.lock_shared(DIGEST))
    assert arriving.names() == {DIGEST}
    assert arriving.try_lock(DIGEST) is not None


def test_an_upload_that_an_earlier_release_received_is_found(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "quarantine" / "one"
    workspace.received.mkdir()
    assert workspace.uploaded() == workspace.received == folder
    (folder / "upload").mkdir()
    assert workspace.uploaded() == folder / "upload"
