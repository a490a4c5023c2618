"""Hostile uploads: forms and archives that misstate their content."""

import gzip
import io
import json
import tarfile
import zipfile
import zlib
from dataclasses import dataclass, replace
from typing import Literal

from hypothesis import strategies as st

from fuzz.hostile_files import (
    DATA,
    GOOD_CONFIG,
    GOOD_WEIGHTS,
    configs,
    edited,
    edits,
    good_config,
    good_weights,
    raw,
    weight_files,
    weighted,
)

BOUNDARY = b"fuzz"
BOMB_BYTES = 2**25  # twice what the server takes

file_names = st.sampled_from(
    [
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "a.tar",
        "a.tgz",
        "../adapter_config.json",
        "/etc/passwd",
        "a\\b",
        "a/../b",
        "\0",
        "x" * 3000,
        "é😀",
        "",
        "x/adapter_config.json",
        "./adapter_model.safetensors",
        "a.zip",
        "archive",
        "CON",
    ]
) | st.text(max_size=10)
tar_types = st.sampled_from(
    [tarfile.REGTYPE] * 8
    + [tarfile.AREGTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE]
    + [tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, tarfile.GNUTYPE_SPARSE]
    + [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"?"]
)
tar_formats: st.SearchStrategy[Literal[0, 1, 2]] = st.sampled_from(
    [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
claimed = st.sampled_from([None] * 6 + [0, 1, 2**20, 2**33 - 1, 2**62, -1])


@dataclass(frozen=True, slots=True)
class Member:
    """One entry of a tar. `says_bytes` is its size as its header has it."""

    name: str
    content: bytes
    kind: bytes
    says_bytes: int | None
    format: Literal[0, 1, 2]
    pax: dict[str, str]

    def written(self) -> bytes:
        info = tarfile.TarInfo(self.name)
        info.type, info.linkname = self.kind, "/etc/passwd"
        info.size = len(self.content) if self.says_bytes is None else self.says_bytes
        info.pax_headers = self.pax
        try:
            header = info.tobuf(self.format, "utf-8", "surrogateescape")
        except (ValueError, UnicodeError):  # this format can't say it
            return b"\xff" * 512
        return header + self.content + b"\0" * (-len(self.content) % 512)


pax = st.dictionaries(
    st.sampled_from(["size", "path", "linkpath", "GNU.sparse.map", "GNU.sparse.size", "x"]),
    st.sampled_from(["0", "-1", "9" * 30, "../x", "adapter_config.json", "é" * 200, "a=b\nc"]),
    max_size=2,
)
contents = configs | weight_files
members = st.builds(Member, file_names, contents, tar_types, claimed, tar_formats, pax)
good_members = st.tuples(
    st.builds(
        lambda content: Member("a/adapter_config.json", content, b"0", None, 1, {}),
        good_config | configs,
    ),
    st.builds(
        lambda content: Member("a/adapter_model.safetensors", content, b"0", None, 1, {}),
        good_weights | weight_files,
    ),
).map(list)


CONFIG_MEMBER = Member("a/adapter_config.json", GOOD_CONFIG, tarfile.REGTYPE, None, 1, {})
WEIGHTS_MEMBER = Member("a/adapter_model.safetensors", GOOD_WEIGHTS, tarfile.REGTYPE, None, 1, {})


def _linked(member: Member) -> Member:
    return replace(member, content=b"", kind=tarfile.SYMTYPE)


def _tar(given: list[Member]) -> bytes:
    return b"".join(member.written() for member in given) + b"\0" * 1024


def _bomb(content: bytes) -> bytes:
    """A gzip of zeros that unpacks to more than is allowed."""
    packer = zlib.compressobj(9, wbits=31)
    packed = packer.compress(content)
    for _ in range(BOMB_BYTES // 2**20):
        packed += packer.compress(bytes(2**20))
    return packed + packer.flush()


def _zip(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_config.json", content)
        archive.writestr("adapter_model.safetensors", bytes(2**20))
    return buffer.getvalue()


tars = (st.lists(members, max_size=3) | good_members | st.lists(members, max_size=1)).map(_tar)
gzipped = tars.map(lambda content: gzip.compress(content, 1))
archives = (
    tars
    | gzipped
    | st.builds(edited, tars, edits)
    | st.builds(edited, gzipped, edits)
    | gzipped.map(lambda content: content + content)
    | gzipped.map(lambda content: gzip.compress(content, 1))
    | configs.map(_zip)
    | raw
)
bombs = st.sampled_from([b"", b"a" * 512, _tar([])]).map(_bomb)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a form. `extra` is put into its headers as it is."""

    name: str
    file_name: str | None
    content: bytes
    extra: bytes = b""

    def written(self) -> bytes:
        disposition = b'form-data; name="%s"' % self.name.encode("utf-8", "surrogatepass")
        if self.file_name is not None:
            disposition += b'; filename="%s"' % self.file_name.encode("utf-8", "surrogatepass")
        head = b"--%s\r\nContent-Disposition: %s\r\n" % (BOUNDARY, disposition)
        return head + self.extra + b"\r\n" + self.content + b"\r\n"


@dataclass(frozen=True, slots=True)
class HostileUpload:
    body: bytes
    content_type: str = f"multipart/form-data; boundary={BOUNDARY.decode()}"


def _file(name: str, content: bytes) -> Part:
    return Part("files", name, content)


fields = st.builds(
    Part,
    st.sampled_from(["tags", "metadata", "description", "parent", "source", "", "é", "x" * 2000]),
    st.none(),
    raw | st.sampled_from([b"[]", b"{}", b'["a"]', json.dumps({"a": {"b": [1]}}).encode()]),
)
extras = st.sampled_from(
    [
        b"",
        b"",
        b"",
        b"Content-Length: 99999999999\r\n",
        b"X: " + b"y" * 10_000 + b"\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"\0: \0\r\n",
        b"no colon\r\n",
    ]
)
parts = st.builds(Part, st.just("files"), file_names, contents, extras) | fields
good_parts = st.tuples(
    st.builds(Part, st.just("files"), st.just("adapter_config.json"), good_config | configs),
    st.builds(
        Part,
        st.just("files"),
        st.just("adapter_model.safetensors"),
        good_weights | weight_files,
    ),
).map(list)
archive_parts = st.builds(
    lambda name, content: [Part("files", name, content)],
    st.sampled_from(["a.tar", "a.tar.gz", "a.tgz"]),
    weighted((30, archives), (1, bombs)),
)
# With one defect each, and all else good: of the parts above few get as far as this
one_defect = st.sampled_from(
    [
        [_file("adapter_config.json", GOOD_CONFIG)],
        [_file("adapter_model.safetensors", GOOD_WEIGHTS)],
        [_file("adapter_config.json", b"{"), _file("adapter_model.safetensors", GOOD_WEIGHTS)],
        [_file("a.tar", _tar([_linked(CONFIG_MEMBER), WEIGHTS_MEMBER]))],
        [_file("a.tar", _tar([CONFIG_MEMBER, _linked(WEIGHTS_MEMBER)]))],
    ]
) | st.integers(1, len(DATA)).map(
    lambda cut: [
        _file("adapter_config.json", GOOD_CONFIG),
        _file("adapter_model.safetensors", GOOD_WEIGHTS[:-cut]),
    ]
)
many_parts = st.just([Part(f"f{n}", None, b"x") for n in range(1100)])


def _form(given: list[Part], end: bytes) -> bytes:
    return b"".join(part.written() for part in given) + end


ends = st.sampled_from([b"--%s--\r\n" % BOUNDARY] * 20 + [b"", b"--fuzz", b"\r\n--fuzz--\r\nmore"])
forms = st.builds(
    _form,
    weighted(
        (10, good_parts),
        (8, one_defect),
        (20, archive_parts),
        (10, st.lists(parts, max_size=3)),
        (1, many_parts),
    ),
    ends,
)
uploads = weighted(
    (12, st.builds(HostileUpload, forms)),
    (2, st.builds(HostileUpload, st.builds(edited, forms, edits))),
    (
        1,
        st.builds(
            HostileUpload,
            forms,
            st.sampled_from(
                [
                    "multipart/form-data",
                    "multipart/form-data; boundary=",
                    "multipart/mixed; boundary=x",
                    f"multipart/form-data; boundary={'x' * 5000}",
                    'multipart/form-data; boundary="fuzz"',
                ]
            ),
        ),
    ),
)
