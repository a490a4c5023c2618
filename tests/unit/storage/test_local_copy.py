"""What a guest keeps on its disk: the right bytes, so many of them, and what is used."""

import os
import shutil
from pathlib import Path

import pytest
from blake3 import blake3

from adaptry.client import PullFailed
from engine.artifact_files import LocalCopies
from registry.storage.integrity import manifest_digest
from registry.storage.local_copy import LocalCopyCache


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
    assert {folder.name for folder in tmp_path.iterdir()} == {first, third}
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
    assert {folder.name for folder in tmp_path.iterdir()} == {first, third}, "over its limit"


def test_what_was_just_given_stays_until_the_engine_has_it(store: Store, tmp_path: Path) -> None:
    first, second, third = (store.add(letter * 100) for letter in (b"a", b"b", b"c"))
    in_use: set[str] = set()
    clock = Clock()
    files = LocalCopyCache(tmp_path, 150, in_use=lambda: in_use, clock=clock)
    age(store.get(files, first), 30)
    age(store.get(files, second), 20)
    assert {folder.name for folder in tmp_path.iterdir()} == {first, second}
    in_use.add(first)
    store.get(files, second)  # it is seen that the first one is used,
    in_use.remove(first)  # and no more
    store.get(files, third)
    assert {folder.name for folder in tmp_path.iterdir()} == {second, third}
    clock.now += 100  # the second one was handed out but is not in use yet
    age(tmp_path / second, 30)
    store.get(files, third)
    assert {folder.name for folder in tmp_path.iterdir()} == {third}


def test_one_that_can_not_be_fetched_leaves_nothing_and_is_tried_again(
    store: Store, tmp_path: Path
) -> None:
    files = LocalCopyCache(tmp_path, 1000)
    digest = store.add(b"a")

    def broken(folder: Path) -> None:
        raise PullFailed("no")

    with pytest.raises(PullFailed):
        files.folder_of(digest, broken)
    assert list(tmp_path.iterdir()) == []
    assert (store.get(files, digest) / "weights").is_file()
