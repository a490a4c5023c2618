"""Files that were verified once are believed until anything touches them."""

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.storage import integrity
from registry.storage.integrity import (
    FilesChanged,
    fingerprint_file,
    manifest_digest,
    verify,
    write_fingerprint,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`adapters/ab/<digest>/` of a store, not sealed yet."""
    made = tmp_path / "adapters" / "ab" / "unnamed"
    made.mkdir(parents=True)
    (made / "adapter_config.json").write_bytes(b"{}")
    (made / "adapter_model.safetensors").write_bytes(b"weights")
    return made.rename(made.with_name(content_digest(made)))


def content_digest(folder: Path) -> str:
    return manifest_digest(integrity.hash_file(file) for file in folder.iterdir())


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files were read to their end."""
    names: list[str] = []
    whole = integrity.hash_file

    def noted(file: Path) -> tuple[str, int, str]:
        names.append(file.name)
        return whole(file)

    monkeypatch.setattr(integrity, "hash_file", noted)
    return names


def test_sealed_files_are_not_read(folder: Path, hashed: list[str]) -> None:
    write_fingerprint(folder)
    verify(folder, folder.name)
    assert hashed == []


def test_without_a_seal_they_are_read_once(folder: Path, hashed: list[str]) -> None:
    verify(folder, folder.name)
    assert len(hashed) == 2
    verify(folder, folder.name)
    assert len(hashed) == 2


def test_a_copied_store_is_read_again(folder: Path, tmp_path: Path, hashed: list[str]) -> None:
    write_fingerprint(folder)
    copied = tmp_path / "copy" / "adapters" / "ab" / folder.name
    shutil.copytree(folder, copied)
    shutil.copytree(fingerprint_file(folder).parent, fingerprint_file(copied).parent)
    verify(copied, copied.name)
    assert len(hashed) == 2


def rewrite(folder: Path) -> None:
    """As many bytes, and the times of before."""
    file = folder / "adapter_model.safetensors"
    status = file.stat()
    file.write_bytes(b"WEIGHTS")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def add(folder: Path) -> None:
    (folder / "more").write_bytes(b"")


def lose(folder: Path) -> None:
    (folder / "adapter_config.json").unlink()


@pytest.mark.parametrize("damage", [rewrite, add, lose])
def test_what_changed_is_found(folder: Path, damage: Callable[[Path], None]) -> None:
    write_fingerprint(folder)
    damage(folder)
    for _ in range(2):
        with pytest.raises(FilesChanged, match="their digest is"):
            verify(folder, folder.name)


def test_a_touched_file_with_the_same_content_is_sealed_again(
    folder: Path, hashed: list[str]
) -> None:
    write_fingerprint(folder)
    (folder / "adapter_config.json").touch()
    verify(folder, folder.name)
    assert len(hashed) == 2
    verify(folder, folder.name)
    assert len(hashed) == 2


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff"])
def test_a_broken_seal_is_no_seal(folder: Path, content: bytes, hashed: list[str]) -> None:
    write_fingerprint(folder)
    fingerprint_file(folder).write_bytes(content)
    verify(folder, folder.name)
    assert len(hashed) == 2


def test_missing_files_are_reported(folder: Path) -> None:
    write_fingerprint(folder)
    shutil.rmtree(folder)
    with pytest.raises(FileNotFoundError, match="the files are gone"):
        verify(folder, folder.name)


def test_a_full_disk_leaves_no_half_seal_and_is_no_reason_to_refuse(folder: Path) -> None:
    seals_folder = fingerprint_file(folder).parent
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handled = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # not one more byte
    try:
        verify(folder, folder.name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handled)
    assert list(seals_folder.iterdir()) == []
    verify(folder, folder.name)
    assert fingerprint_file(folder).exists()
