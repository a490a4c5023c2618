"""Local copies of a remote store: verified, limited in bytes, never deleted while needed."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from engine.artifact_files import LocalCopies, create_local_copies
from engine.errors import AdapterLoadFailed
from engine.settings import EngineSettings
from engine.types import AdapterVersion, LoadFailure
from registry.storage.integrity import manifest_digest
from tests.support.cache.controller_harness import adapter


class Store:
    """Versions of one file each."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def add(self, number: int, content: bytes) -> AdapterVersion:
        digest = manifest_digest([("weights", len(content), blake3(content).hexdigest())])
        folder = self._root / digest
        folder.mkdir(parents=True)
        (folder / "weights").write_bytes(content)
        return replace(adapter(number), digest=digest, path=str(folder))


def kept(tmp_path: Path) -> set[str]:
    """Digests of the copies; beside them are only the locks of those who use them."""
    return {each.name for each in (tmp_path / "copies" / "0").iterdir()} - {".locks"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


async def test_it_is_copied_once_and_read_from_there(store: Store, tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "copies", 1000)
    version = store.add(1, b"weights")
    copied = await copies.verify(version)
    assert copied == replace(version, path=copied.path)
    assert Path(copied.path).is_relative_to(tmp_path / "copies")
    shutil.rmtree(version.path)  # the remote store is unavailable
    again = await copies.verify(version)
    assert (Path(again.path) / "weights").read_bytes() == b"weights"


async def test_what_was_not_registered_is_not_kept(store: Store, tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "copies", 1000)
    version = store.add(1, b"weights")
    (Path(version.path) / "weights").write_bytes(b"others!")
    with pytest.raises(AdapterLoadFailed) as refused:
        await copies.verify(version)
    assert refused.value.failure is LoadFailure.FILES
    assert kept(tmp_path) == set()
    shutil.rmtree(version.path)
    with pytest.raises(AdapterLoadFailed) as gone:
        await copies.verify(version)
    assert gone.value.failure is LoadFailure.MISSING


async def test_a_bad_copy_of_good_files_is_the_local_disks_fault(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = LocalCopies(tmp_path / "copies", 1000)
    version = store.add(1, b"weights")
    copytree = shutil.copytree

    def corrupt(source: Path, target: Path) -> None:
        copytree(source, target)
        (target / "weights").write_bytes(b"others!")

    monkeypatch.setattr(shutil, "copytree", corrupt)
    with pytest.raises(AdapterLoadFailed) as refused:
        await copies.verify(version)
    assert refused.value.failure is LoadFailure.IO
    monkeypatch.undo()
    await copies.verify(version)


async def test_a_copy_that_was_changed_is_replaced(store: Store, tmp_path: Path) -> None:
    copies = LocalCopies(tmp_path / "copies", 1000)
    version = store.add(1, b"weights")
    weights = Path((await copies.verify(version)).path) / "weights"
    weights.write_bytes(b"others!")
    await copies.verify(version)
    assert weights.read_bytes() == b"weights"


async def test_the_least_recently_used_copy_is_deleted_but_none_that_is_needed(
    store: Store, tmp_path: Path
) -> None:
    copies = LocalCopies(tmp_path / "copies", 250)
    versions = [store.add(number, bytes([number]) * 100) for number in range(4)]
    in_use = {versions[0].digest}
    copies.protect(lambda: frozenset(in_use))
    for version in versions:
        in_use.add(version.digest)  # it is loaded
        await copies.verify(version)
        in_use.intersection_update({versions[0].digest})  # and evicted again
    assert kept(tmp_path) == {versions[0].digest, versions[3].digest}


def test_concurrent_engines_have_separate_folders(store: Store, tmp_path: Path) -> None:
    root = tmp_path / "copies"
    here = LocalCopies(root, 1000)
    code = (
        "import asyncio, sys\n"
        "from pathlib import Path\n"
        "from engine.artifact_files import LocalCopies\n"
        "print(LocalCopies(Path(sys.argv[1]), 1000)._folder.name)\n"
    )
    another = subprocess.run(
        [sys.executable, "-c", code, str(root)], capture_output=True, text=True, check=True
    )
    assert another.stdout.strip() == "1"
    assert here._folder.name == "0"
    assert LocalCopies(root, 1000)._folder.name == "1", "its owner has ended"


def test_they_are_made_where_the_settings_say_so(tmp_path: Path) -> None:
    assert create_local_copies(EngineSettings()) is None
    asked = EngineSettings(local_copies=tmp_path, local_copies_bytes="1MiB")
    assert isinstance(create_local_copies(asked), LocalCopies)
