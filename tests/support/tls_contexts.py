"""TLS contexts: one for each file of authorities, since reading it takes 25 ms.

Every client of httpx makes one, for http:// too, and a test makes several clients.
"""

import ssl
from functools import cache

import pytest

_make = ssl.create_default_context
_make_once = cache(_make)
_patch = pytest.MonkeyPatch()


def _create_default_context(
    purpose: ssl.Purpose = ssl.Purpose.SERVER_AUTH,
    *,
    cafile: str | None = None,
    capath: str | None = None,
    cadata: str | bytes | None = None,
) -> ssl.SSLContext:
    """Those of httpx name a file or a folder; others may be changed by whoever made them."""
    make = _make_once if cafile or capath else _make
    return make(purpose, cafile=cafile, capath=capath, cadata=cadata)


def pytest_configure() -> None:
    _patch.setattr(ssl, "create_default_context", _create_default_context)


def pytest_unconfigure() -> None:
    _patch.undo()
