"""Hash chain over exported events: each line has a hash of itself and of the line before.

A line is JSON that ends in `,"hash":"…"}`. The hash is SHA-256, in hexadecimal, of the hash of the
line before (64 zeros for the first) followed by the bytes of this line before `,"hash":`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

FIRST_HASH = "0" * 64
_HASH = b',"hash":"'
_END = b'"}\n'


class BrokenChain(Exception):
    """A line does not match its hash; the message names it."""


@dataclass(frozen=True, slots=True)
class ChainEnd:
    """Where the next export continues: after which event, and from which hash."""

    events: int = 0
    after: int = 0
    chain: str = FIRST_HASH


def chained_line(content: dict[str, Any], before: str) -> tuple[bytes, str]:
    """The line, and its hash for the next one."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    body = text[:-1]
    digest = _digest(before, body)
    return b"".join((body, _HASH, digest.encode(), _END)), digest


def verify_chain(lines: Iterable[bytes], begin: ChainEnd | None = None) -> ChainEnd:
    """Verify the lines; the chain's end. Raises BrokenChain for the first mismatch."""
    end = begin or ChainEnd()
    for number, line in enumerate(lines, 1):
        body, found, tail = line.rpartition(_HASH)
        digest = _digest(end.chain, body)
        if not found or tail != digest.encode() + _END:
            raise BrokenChain(f"line {number} is not what followed the line before it")
        end = ChainEnd(end.events + 1, _id_of(body, number), digest)
    return end


def _digest(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()


def _id_of(body: bytes, number: int) -> int:
    try:
        return int(json.loads(body + b"}")["id"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BrokenChain(f"line {number} is no event") from None
