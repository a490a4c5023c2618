"""What a guest keeps on its disk: the right bytes, so many of them, and what is used."""

import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blake3 import blake3

from adaptry.client import PullFailed
from engine.artifact_files import LocalCopies
from registry.storage.integrity import manifest_digest
from registry.storage.local_copy import LocalCopyCache

ROOT = Path(__file__).resolve().parents[3]


class Store:
    """Versions of one file each; counts what is fetched."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self.fetched: list[str] = []

    def add(self, content: bytes) -> str:
        digest = manifest_digest([("weights", len(content), blake3(content).hexdigest())])
        self.contents[digest] = content
        return digest

    def get(self, files: LocalCopyCache, digest: str) -> Path:
        def fetch(folder: Path) -> None:
            self.fetched.append(digest)
            folder.mkdir()
            (folder / "weights").write_bytes(self.contents[digest])

        return files.folder_of(digest, fetch)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


def age(folder: Path, seconds: float) -> None:
    at = folder.stat().st_mtime - seconds
    os.utime(folder, (at, at))


def kept(root: Path) -> set[str]:
    """The digests there."""
    return {folder.name for folder in root.iterdir() if folder.is_dir()}


def test_it_is_fetched_once_and_once_only_hashed(store: Store, tmp_path: Path) -> None:
    files = LocalCopyCache(tmp_path, 1000)
    digest = store.add(b"a")
    folder = store.get(files, digest)
    assert (folder / "weights").read_bytes() == b"a"
    assert store.get(files, digest) == folder
    assert store.fetched == [digest]
    assert store.get(LocalCopyCache(tmp_path, 1000), digest) == folder
    assert store.fetched == [digest], "what is whole is taken over from another process"


def test_no_other_user_may_read_the_copies(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "copies"
    store.get(LocalCopyCache(root, 1000), store.add(b"a"))
    assert root.stat().st_mode & 0o777 == 0o700
    LocalCopies(tmp_path / "engines", 1000)
    assert (tmp_path / "engines").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("harm", ["change", "cut", "add", "remove"])
def test_what_is_not_whole_is_fetched_again(store: Store, tmp_path: Path, harm: str) -> None:
    digest = store.add(b"abc")
    folder = store.get(LocalCopyCache(tmp_path, 1000), digest)
    if harm == "remove":
        shutil.rmtree(folder)
    elif harm == "add":
        (folder / "more").write_bytes(b"x")
    else:
        (folder / "weights").write_bytes(b"abd" if harm == "change" else b"ab")
    store.get(LocalCopyCache(tmp_path, 1000), digest)
    assert store.fetched == [digest, digest]
    assert [(f.name, f.read_bytes()) for f in folder.iterdir()] == [("weights", b"abc")]


def test_the_longest_unused_go_when_there_are_too_many_bytes(store: Store, tmp_path: Path) -> None:
    clock = Clock()
    files = LocalCopyCache(tmp_path, 250, clock=clock)
    first, second, third = (store.add(letter * 100) for letter in (b"a", b"b", b"c"))
    age(store.get(files, first), 30)
    age(store.get(files, second), 20)
    store.get(files, first)  # used again
    clock.now += 100  # they were handed out and read long ago
    store.get(files, third)
    assert kept(tmp_path) == {first, third}
    store.get(files, second)
    assert store.fetched == [first, second, third, second]


def test_what_an_engine_may_read_again_stays(store: Store, tmp_path: Path) -> None:
    first, second, third = (store.add(letter * 100) for letter in (b"a", b"b", b"c"))
    clock = Clock()
    files = LocalCopyCache(tmp_path, 150, in_use=lambda: {first}, clock=clock)
    age(store.get(files, first), 30)
    age(store.get(files, second), 20)
    clock.now += 100
    store.get(files, third)
    assert kept(tmp_path) == {first, third}, "over its limit"


def test_what_was_just_given_stays_until_the_engine_has_it(store: Store, tmp_path: Path) -> None:
    first, second, third = (store.add(letter * 100) for letter in (b"a", b"b", b"c"))
    in_use: set[str] = set()
    clock = Clock()
    files = LocalCopyCache(tmp_path, 150, in_use=lambda: in_use, clock=clock)
    age(store.get(files, first), 30)
    age(store.get(files, second), 20)
    assert kept(tmp_path) == {first, second}
    in_use.add(first)
    store.get(files, second)  # it is seen that the first one is used,
    in_use.remove(first)  # and no more
    store.get(files, third)
    assert kept(tmp_path) == {second, third}
    clock.now += 100  # the second one was handed out but is not in use yet
    age(tmp_path / second, 30)
    store.get(files, third)
    assert kept(tmp_path) == {third}


def test_one_that_can_not_be_fetched_leaves_nothing_and_is_tried_again(
    store: Store, tmp_path: Path
) -> None:
    files = LocalCopyCache(tmp_path, 1000)
    digest = store.add(b"a")

    def broken(folder: Path) -> None:
        raise PullFailed("no")

    with pytest.raises(PullFailed):
        files.folder_of(digest, broken)
    assert kept(tmp_path) == set()
    assert (store.get(files, digest) / "weights").is_file()


class Shared:
    """A folder with room for one copy, and two processes that fetch into it."""

    def __init__(self, root: Path, store: Store) -> None:
        self._store = store
        self.root = root
        self.clock = Clock()
        self.used: set[str] = set()
        self.ours = LocalCopyCache(root, 150, in_use=lambda: self.used, clock=self.clock)
        # locks are of the open file: to those of `ours` these are another process's
        self.theirs = LocalCopyCache(root, 150)

    def get(self, files: LocalCopyCache, digest: str) -> Path:
        return self._store.get(files, digest)


@pytest.fixture
def shared(store: Store, tmp_path: Path) -> Shared:
    return Shared(tmp_path, store)


def test_what_another_process_uses_or_has_just_fetched_stays(store: Store, shared: Shared) -> None:
    first, second, third = (store.add(letter * 100) for letter in (b"a", b"b", b"c"))
    age(shared.get(shared.ours, first), 30)
    shared.get(shared.theirs, second)
    assert kept(shared.root) == {first, second}, "it was just fetched"
    shared.used.add(first)
    shared.clock.now += 100
    age(shared.root / first, 30)
    shared.get(shared.theirs, third)
    assert kept(shared.root) == {first, second, third}, "it is used"
    shared.used.remove(first)
    shared.ours.let_go()
    shared.get(shared.theirs, third)
    assert kept(shared.root) == {second, third}, "it is not any more"


def test_what_a_killed_process_used_may_go(store: Store, shared: Shared) -> None:
    first, second = (store.add(letter * 100) for letter in (b"a", b"b"))
    program = (
        "import pathlib, sys, time\n"
        "from registry.storage.local_copy import LocalCopyCache\n"
        "digest, root = sys.argv[1], pathlib.Path(sys.argv[2])\n"
        "files = LocalCopyCache(root, 150, lambda: {digest})\n"
        "files.folder_of(digest, lambda folder: None)\n"
        "print('held', flush=True)\n"
        "time.sleep(60)\n"
    )
    age(shared.get(shared.ours, first), 30)
    shared.clock.now += 100
    shared.ours.let_go()
    process = subprocess.Popen(
        [sys.executable, "-c", program, first, str(shared.root)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    try:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        age(shared.root / first, 30)
        shared.get(shared.theirs, second)
        assert kept(shared.root) == {first, second}, "a real process holds it"
    finally:
        process.kill()
        process.communicate()
    shared.get(shared.theirs, second)
    assert kept(shared.root) == {second}


def test_two_processes_that_want_the_same_files_fetch_them_once(
    store: Store, shared: Shared
) -> None:
    """Else the second one removes what the first one unpacks, or can't rename its own."""
    digest = store.add(b"a" * 100)
    begun, go_on = threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        begun.set()
        assert go_on.wait(10)
        folder.mkdir()
        (folder / "weights").write_bytes(store.contents[digest])

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(shared.ours.folder_of, digest, slowly)
        assert begun.wait(10)
        second = threads.submit(shared.get, shared.theirs, digest)
        with pytest.raises(TimeoutError):
            second.result(0.2)
        go_on.set()
        assert first.result(10) == second.result(10)
    assert store.fetched == []


def test_what_a_killed_process_left_behind_goes_but_not_what_is_being_fetched(
    store: Store, shared: Shared
) -> None:
    digest, other = store.add(b"a"), store.add(b"b")
    left = shared.root / f".{'0' * 64}.1234.partial"
    left.mkdir()

    def fetch(folder: Path) -> None:
        arriving = folder.with_name(f".{folder.name}.1.partial")
        arriving.mkdir()
        shared.get(shared.ours, other)  # each of them removes what was left behind
        shared.get(shared.theirs, other)
        (arriving / "weights").write_bytes(b"a")
        arriving.rename(folder)

    shared.ours.folder_of(digest, fetch)
    assert not left.exists()
    assert kept(shared.root) == {digest, other}
