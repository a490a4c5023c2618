"""Trace lines: one for each request, for each load, and for each start of a server.

On disk a line is a JSON list without field names, half as long as the object that is exported.
"""

from collections.abc import Iterable, Iterator

import msgspec


class ServerLine(msgspec.Struct, frozen=True, array_like=True, tag="server"):
    """The engine that the lines after it are of, and its limits. Times are seconds since 1970."""

    format: int
    at: float
    server: str
    base: str
    slots: int
    host_places: int
    host_bytes: int | None
    max_rank: int
    max_loads: int
    slot_wait_seconds: float
    eviction_policy: str


class RequestLine(msgspec.Struct, frozen=True, array_like=True, tag="request"):
    """One HTTP request that generates, at the time when its body was complete.

    `adapter`, `version`: None: for the base model. `outcome`: as in `adaptry_requests_total`.
    `source`: where it found its adapter; None: it got no lease. `load_seconds` and `load_bytes`: of
    the load from disk that it waited for. `first_token_seconds`: None if there was no token.
    `seconds`: until the response was complete.
    """

    at: float
    adapter: str | None
    version: int | None
    tenant: str | None
    prompt_tokens: int
    generated_tokens: int
    outcome: str
    source: str | None
    wait_seconds: float
    load_seconds: float
    load_bytes: int
    first_token_seconds: float | None
    seconds: float


class LoadLine(msgspec.Struct, frozen=True, array_like=True, tag="load"):
    """An adapter entered a tier: `disk_to_host`, or `host_to_gpu`."""

    at: float
    adapter: str
    version: int
    transition: str
    seconds: float
    size_bytes: int
    rank: int


Line = ServerLine | RequestLine | LoadLine

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Line)


def encode_line(line: Line) -> bytes:
    """With its end."""
    return _encoder.encode(line) + b"\n"


def decode_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """What a crash cut off, or a disk damaged, is left out."""
    for line in lines:
        try:
            yield _decoder.decode(line)
        except msgspec.DecodeError:  # ValidationError too
            continue


def encode_for_export(line: Line) -> bytes:
    """An object with the names of its fields, and its `kind`."""
    kind = line.__struct_config__.tag
    return _encoder.encode({"kind": kind, **msgspec.structs.asdict(line)}) + b"\n"
