"""Unpacking a download: the version's files, or nothing."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3

from adaptry.client import PullFailed, unpack_version
from registry.storage.integrity import manifest_digest
from registry.storage.tar import Entry, tar_chunks

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"w" * 3_000_000}
DIGEST = manifest_digest((n, len(c), blake3(c).hexdigest()) for n, c in FILES.items())


def sent(files: dict[str, bytes] = FILES, piece: int = 100_001) -> Iterator[bytes]:
    whole = b"".join(tar_chunks(Entry(name, content) for name, content in files.items()))
    return (whole[start : start + piece] for start in range(0, len(whole), piece))


@pytest.mark.parametrize("piece", [511, 10_000_000])
def test_the_unpacked_files_are_those_sent(tmp_path: Path, piece: int) -> None:
    folder = tmp_path / "new" / "folder"
    assert unpack_version(sent(piece=piece), DIGEST, folder) == 3_000_002
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["folder"]


def member(**fields: object) -> bytes:
    info = tarfile.TarInfo("x")
    for name, value in fields.items():
        setattr(info, name, value)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.addfile(info, io.BytesIO(b"x" * info.size))
    return archive.getvalue()


HOSTILE = {
    "outside": member(name="../outside", size=1),
    "absolute": member(name="/tmp/absolute", size=1),
    "below": member(name="a/b", size=1),
    "link": member(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
    "device": member(type=tarfile.CHRTYPE),
    "folder": member(type=tarfile.DIRTYPE),
}


@pytest.mark.parametrize("archive", HOSTILE.values(), ids=HOSTILE)
def test_anything_but_a_plain_file_is_refused(tmp_path: Path, archive: bytes) -> None:
    with pytest.raises(PullFailed, match="which no adapter has"):
        unpack_version(iter([archive]), DIGEST, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def changed() -> dict[str, bytes]:
    return FILES | {"adapter_config.json": b"{ }"}


@pytest.mark.parametrize(
    ("chunks", "says"),
    [
        (lambda: sent(changed()), "its digest differs"),
        (lambda: sent(FILES | {"more": b""}), "its digest differs"),
        (lambda: iter([b"".join(sent())[:2_000_000]]), "is no tar|digest"),
        (lambda: iter([b"no tar at all" * 100]), "is no tar"),
        (lambda: iter([]), "is no tar"),
        (lambda: sent({f"file-{n}": b"" for n in range(101)}), "which no adapter has"),
    ],
)
def test_a_download_that_is_not_the_version_leaves_nothing(
    tmp_path: Path, chunks: object, says: str
) -> None:
    assert callable(chunks)
    with pytest.raises(PullFailed, match=says):
        unpack_version(chunks(), DIGEST, tmp_path / "folder")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_not_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PullFailed, match="can't be written"):
        unpack_version(sent(), DIGEST, tmp_path / "file" / "folder")
