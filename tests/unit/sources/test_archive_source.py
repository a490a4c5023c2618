"""Archives: what an adapter needs is taken out, and nothing that is sent can do harm."""

import gzip
import io
import itertools
import json
import os
import tarfile
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from registry.errors import InvalidAdapter, SourceTooLarge, TenantLimit
from registry.errors.defects import Defect
from registry.inspection.training_files import FOLDER
from registry.sources.archive import extract
from registry.sources.base import FetchLimits, Progress, Stopped

CONFIG, WEIGHTS, PICKLE = "adapter_config.json", "adapter_model.safetensors", "adapter_model.bin"
LIMITS = FetchLimits(max_bytes=100_000, max_files=20)
GZIP = 31  # the format, of zlib
ADAPTER = {CONFIG: b"{}", WEIGHTS: os.urandom(3000)}

Format = pytest.mark.parametrize(
    "form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT], ids=str
)


def tar(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            archive.addfile(entry(name, size=len(content)), io.BytesIO(content))
    return buffer.getvalue()


def entry(name: str, *, size: int = 0, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    info.type = kind
    return info


def blocks(*parts: tarfile.TarInfo | bytes) -> bytes:
    """Raw headers and contents, padded as a tar wants it."""
    raw = b""
    for part in parts:
        block = part if isinstance(part, bytes) else part.tobuf(tarfile.USTAR_FORMAT)
        raw += block + b"\0" * (-len(block) % 512)
    return raw + b"\0" * 1024


class Unpacker:
    def __init__(self, folder: Path) -> None:
        self.archive = folder / "archive.tar"
        self.into = folder / "into"

    def __call__(self, content: bytes, limits: FetchLimits = LIMITS) -> dict[str, bytes]:
        self.archive.write_bytes(content)
        self.into.mkdir()
        fetched = extract(self.archive, self.into, limits, Progress())
        files = {file.name: file.read_bytes() for file in self.into.iterdir()}
        assert {f.name: (f.size_bytes, f.hash) for f in fetched.files} == {
            name: (len(data), blake3(data).hexdigest()) for name, data in files.items()
        }
        return files

    def refuses(self, content: bytes, limits: FetchLimits = LIMITS) -> str:
        with pytest.raises(InvalidAdapter) as caught:
            self(content, limits)
        caught.value.detail.encode("ascii")
        return caught.value.code


@pytest.fixture
def unpack(tmp_path: Path) -> Unpacker:
    return Unpacker(tmp_path)


# ---- what is taken -----------------------------------------------------------------------


@Format
@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("folder", ["", "./", "support-v1/", "a/b/c/"])
def test_the_adapter_is_taken_out_of_any_folder(
    unpack: Unpacker, form: int, mode: str, folder: str
) -> None:
    files = {f"{folder}{name}": content for name, content in ADAPTER.items()}
    assert unpack(tar(files, form, mode)) == ADAPTER


def kohya_weights(metadata: str = "") -> bytes:
    """As its scripts write them: what they were trained with comes before the names."""
    header = {
        "__metadata__": {"ss_tag_frequency": metadata},
        "lora_unet_down_blocks_0.lora_down.weight": {
            "dtype": "F16",
            "shape": [1, 1],
            "data_offsets": [0, 2],
        },
    }
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"\0\0"


@pytest.mark.parametrize("name", ["my style.safetensors", "a/b/x.safetensors", WEIGHTS])
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_adapter_of_a_diffusion_model_is_told_by_its_tensors(
    tmp_path: Path, name: str, mode: str
) -> None:
    files = {"README.md": b"r", "other.safetensors": b"x", name: kohya_weights("tag " * 20_000)}
    unpack = Unpacker(tmp_path)
    with pytest.raises(InvalidAdapter, match="kohya") as caught:
        unpack(tar(files, mode=mode))
    assert caught.value.code == "diffusion_adapter"


def test_a_text_that_looks_like_such_a_name_tells_nothing(unpack: Unpacker) -> None:
    text = json.dumps({"__metadata__": {"note": '"lora_unet_x": {'}}).encode()
    files = {"x.safetensors": len(text).to_bytes(8, "little") + text}
    assert unpack(tar(files)) == {}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=str)
def test_long_and_foreign_names_are_read(unpack: Unpacker, form: int) -> None:
    folder = f"{'ü' * 90}/{'b' * 200}/"
    files = {f"{folder}{name}": content for name, content in ADAPTER.items()}
    assert unpack(tar(files, form)) == ADAPTER


def test_other_files_are_left_out(unpack: Unpacker) -> None:
    others = {
        "README.md": b"x" * 5000,
        "._adapter_config.json": b"macOS",
        "checkpoint-1/optimizer.pt": b"y" * 700,
        "adapter_config.json.bak": b"{",
    }
    files = dict(itertools.chain.from_iterable(zip(others.items(), ADAPTER.items(), strict=False)))
    assert unpack(tar({**files, **others})) == ADAPTER


@pytest.mark.parametrize("before", [True, False], ids=["before the adapter", "after it"])
def test_what_it_was_trained_with_is_beside_it(unpack: Unpacker, before: bool) -> None:
    """That of the adapter's own folder, wherever it is in the archive."""
    own = {"run/chat_template.jinja": b"own", "run/generation_config.json": b"{}"}
    other = {"run/base/chat_template.jinja": b"other", "run/base/tokenizer.json": b"{}"}
    adapter = {f"run/{name}": content for name, content in ADAPTER.items()}
    files = {**other, **own, **adapter} if before else {**adapter, **own, **other}
    unpack.archive.write_bytes(tar(files))
    unpack.into.mkdir()
    fetched = extract(unpack.archive, unpack.into, LIMITS, Progress())
    assert {file.name for file in fetched.files} == set(ADAPTER)
    beside = {file.name: file.read_bytes() for file in (unpack.into / FOLDER).iterdir()}
    assert beside == {"chat_template.jinja": b"own", "generation_config.json": b"{}"}


def test_what_gnu_tar_makes_of_a_folder_is_read(unpack: Unpacker, tmp_path: Path) -> None:
    import subprocess

    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, content in ADAPTER.items():
        (folder / name).write_bytes(content)
    made = subprocess.run(
        ["tar", "-C", str(tmp_path), "-czf", "-", "adapter"], capture_output=True, check=True
    )
    assert unpack(made.stdout) == ADAPTER


def test_a_pickle_is_noted_but_not_read(unpack: Unpacker) -> None:
    assert unpack(tar({PICKLE: b"x" * 9000, CONFIG: b"{}"})) == {PICKLE: b"", CONFIG: b"{}"}


def test_a_pickle_beside_weights_is_left_out(unpack: Unpacker) -> None:
    assert unpack(tar({PICKLE: b"x", **ADAPTER})) == ADAPTER


def test_files_may_be_empty_and_of_whole_blocks(unpack: Unpacker) -> None:
    files = {CONFIG: b"", "README.md": b"r" * 1024, WEIGHTS: b"w" * 512}
    assert unpack(tar(files)) == {CONFIG: b"", WEIGHTS: b"w" * 512}


def test_several_gzip_streams_are_one_archive(unpack: Unpacker) -> None:
    raw = tar(ADAPTER)
    assert unpack(gzip.compress(raw[:1000]) + gzip.compress(raw[1000:]) + b"\0" * 99) == ADAPTER


# ---- what is refused ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "../adapter_config.json",
        "a/../../adapter_config.json",
        "/etc/adapter_config.json",
        "..",
        "a\\..\\adapter_config.json",
        "../README.md",
        "/README.md",
    ],
)
@Format
def test_a_path_that_leads_out_is_unsafe(unpack: Unpacker, name: str, form: int) -> None:
    assert unpack.refuses(tar({**ADAPTER, name: b"x"}, form)) == "unsafe_path"


def test_a_path_that_leads_out_by_an_extended_header_is_unsafe(unpack: Unpacker) -> None:
    record = b"31 path=../adapter_config.json\n"
    header = entry("x", size=len(record), kind=tarfile.XHDTYPE)
    content = blocks(header, record, entry("adapter_config.json", size=2), b"{}")
    assert unpack.refuses(content) == "unsafe_path"


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.CHRTYPE,
        tarfile.BLKTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
        b"M",
        b"V",
        b"\xff",
    ],
    ids=ascii,
)
@pytest.mark.parametrize("name", [WEIGHTS, "README.md"])
def test_what_is_no_regular_file_is_unsafe(unpack: Unpacker, kind: bytes, name: str) -> None:
    info = entry(name, kind=kind)
    info.linkname = "/etc/passwd"
    content = blocks(entry(CONFIG, size=2), b"{}", info)
    assert unpack.refuses(content) == "unsafe_file"


@pytest.mark.parametrize(
    "record",
    [b"22 GNU.sparse.major=1\n", b"33 GNU.sparse.map=0,1,99999999,1\n"],
)
def test_a_sparse_file_of_the_newer_kind_is_unsafe(unpack: Unpacker, record: bytes) -> None:
    assert len(record) == int(record[:2])
    header = entry("x", size=len(record), kind=tarfile.XHDTYPE)
    content = blocks(header, record, entry(WEIGHTS, size=2), b"ab")
    assert unpack.refuses(content) == "unsafe_file"


def test_a_file_that_stands_twice_is_refused(unpack: Unpacker) -> None:
    files = {**ADAPTER, "checkpoint-500/adapter_config.json": b"{}"}
    assert unpack.refuses(tar(files)) == "archive_invalid"


DAMAGED: dict[str, Callable[[], bytes]] = {
    "no tar": lambda: b"PK\3\4" + os.urandom(2000),
    "half a header": lambda: tar(ADAPTER)[:700],
    "cut off in a file": lambda: tar(ADAPTER)[: 512 * 4],
    "cut off gzip": lambda: gzip.compress(tar(ADAPTER))[:-500],
    "damaged gzip": lambda: gzip.compress(tar(ADAPTER))[:200] + b"\xff" * 500,
    "bzip2": lambda: tar(ADAPTER, mode="w:bz2"),
    "xz": lambda: tar(ADAPTER, mode="w:xz"),
    "negative size": lambda: blocks(negative(), b"{}"),
    "headers only": lambda: blocks(*[entry("x", kind=tarfile.XHDTYPE)] * 5000),
    "long header": lambda: blocks(
        entry("x", size=70_000, kind=tarfile.XHDTYPE), b"9" * 70_000, entry(CONFIG)
    ),
    "long name": lambda: blocks(
        entry("x", size=2**30, kind=tarfile.GNUTYPE_LONGNAME), b"n" * 512, entry(CONFIG)
    ),
    "record of no length": lambda: extended(b"0 path=x\n"),
    "record of a negative length": lambda: extended(b"-9 path=x\n"),
    "record of letters": lambda: extended(b"xx path=x\n"),
    "record without an end": lambda: extended(b"99 path=x\n"),
    "size of letters": lambda: extended(b"13 size=1e99\n"),
    "size of many digits": lambda: extended(b"512 size=" + b"9" * 502 + b"\n"),
    "digits alone": lambda: extended(b"9" * 60_000),
}


def negative() -> bytes:
    header = bytearray(entry(CONFIG).tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\xff" * 12  # base 256: -1
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def extended(record: bytes) -> bytes:
    header = entry("x", size=len(record), kind=tarfile.XHDTYPE)
    return blocks(header, record, entry(CONFIG, size=2), b"{}")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_archive_is_invalid(unpack: Unpacker, kind: str) -> None:
    assert unpack.refuses(DAMAGED[kind]()) == "archive_invalid"


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, gzip.compress(b"")], ids=["", "0", "gz"])
def test_an_empty_archive_holds_nothing(unpack: Unpacker, content: bytes) -> None:
    assert unpack(content) == {}


# ---- limits ------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_limit_is_for_the_adapters_files_together(unpack: Unpacker, mode: str) -> None:
    files = {CONFIG: b"c" * 500, WEIGHTS: b"w" * 500}
    with pytest.raises(SourceTooLarge):
        unpack(tar(files, mode=mode), FetchLimits(999, 20))
    unpack.into.rename(unpack.into.with_name("earlier"))
    assert unpack(tar(files, mode=mode), FetchLimits(1000, 20)) == files


def test_a_size_that_is_only_said_is_too_large_before_a_byte_is_read(unpack: Unpacker) -> None:
    with pytest.raises(SourceTooLarge):
        unpack(blocks(entry(WEIGHTS, size=7 * 2**30), b"few"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", [WEIGHTS, "README.md"])
def test_a_bomb_is_too_large_and_fills_neither_memory_nor_disk(unpack: Unpacker, name: str) -> None:
    size = 2**30
    packer = zlib.compressobj(wbits=GZIP)
    bomb = packer.compress(entry(name, size=size).tobuf(tarfile.GNU_FORMAT))
    bomb += packer.flush(zlib.Z_FULL_FLUSH)  # after which the same bytes are packed the same way
    chunk = packer.compress(b"\0" * 2**20) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb += chunk * (size // 2**20)
    assert len(bomb) < 3 * 2**20
    tracemalloc.start()
    with pytest.raises(SourceTooLarge):
        unpack(bomb)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 20 * 2**20
    assert sum(file.stat().st_size for file in unpack.into.iterdir()) <= LIMITS.max_bytes


def test_too_many_files_are_too_large(unpack: Unpacker) -> None:
    files = {f"{n}.txt": b"" for n in range(LIMITS.max_files - len(ADAPTER))}
    assert unpack(tar({**files, **ADAPTER})) == ADAPTER
    unpack.into.rename(unpack.into.with_name("earlier"))
    with pytest.raises(SourceTooLarge):
        unpack(tar({**files, **ADAPTER, "one-more": b""}))


def test_it_can_be_stopped(tmp_path: Path) -> None:
    (tmp_path / "archive.tar").write_bytes(tar(ADAPTER))
    (tmp_path / "into").mkdir()
    progress = Progress()
    progress.stop()
    with pytest.raises(Stopped):
        extract(tmp_path / "archive.tar", tmp_path / "into", LIMITS, progress)


@pytest.mark.parametrize("order", [(CONFIG, WEIGHTS), (WEIGHTS, CONFIG)])
def test_the_configuration_is_looked_at_before_weights_are_written(
    unpack: Unpacker, order: tuple[str, ...]
) -> None:
    seen: list[set[str]] = []

    def check(folder: Path) -> None:
        seen.append({file.name for file in folder.iterdir()})
        raise InvalidAdapter(Defect.NOT_LORA, "no")

    content = tar({name: ADAPTER[name] for name in order})
    limits = replace(LIMITS, check_config=check)
    assert unpack.refuses(content, limits) == "not_lora"
    assert seen == [{CONFIG}]
    assert {file.name for file in unpack.into.iterdir()} == {CONFIG}


def test_weights_before_their_configuration_are_taken_too(unpack: Unpacker) -> None:
    assert unpack(tar({WEIGHTS: ADAPTER[WEIGHTS], "x": b"y", CONFIG: b"{}"})) == ADAPTER


def test_a_tenant_s_room_ends_what_is_written_not_what_is_skipped(unpack: Unpacker) -> None:
    room = replace(LIMITS, tenant="acme", tenant_bytes=4000)
    content = tar({"optimizer.pt": bytes(50_000), **ADAPTER}, mode="w:gz")
    assert unpack(content, room) == ADAPTER
    for file in unpack.into.iterdir():
        file.unlink()
    unpack.into.rmdir()
    with pytest.raises(TenantLimit, match="acme"):
        unpack(tar({CONFIG: b"{}", WEIGHTS: bytes(90_000)}, mode="w:gz"), room)
    assert sum(file.stat().st_size for file in unpack.into.iterdir()) <= 4000
