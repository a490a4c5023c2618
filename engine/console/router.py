"""Serves the console's files, and tells the browser to trust nothing else.

The files are few and small, and are read once: a path is looked up among their names and never on
the disk.
"""

import hashlib
from dataclasses import dataclass
from importlib.resources import files

from fastapi import APIRouter, Request, Response

from registry.http.problems import problem_response

PREFIX = "/console"

_INDEX = "index.html"
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# No markup can be made of a text, by mistake or by an adapter's metadata: nothing that parses HTML
# takes a string (Trusted Types), and no script or style runs that is not one of these files.
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "cache-control": "no-cache",  # kept, but asked for again each time: a 304 if it is the same
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: str
    etag: str


def create_console_router() -> APIRouter:
    """`/console/` and what belongs to it, from the package's own files."""
    router = APIRouter(prefix=PREFIX, include_in_schema=False)
    found = _read_files()

    @router.api_route("", methods=["GET", "HEAD"])
    async def enter() -> Response:
        """With the slash, so that the page's own links are relative to it, behind any prefix."""
        return Response(status_code=307, headers={"location": f"{PREFIX.removeprefix('/')}/"})

    @router.api_route("/{name:path}", methods=["GET", "HEAD"])
    async def show(name: str, request: Request) -> Response:
        if (file := found.get(name or _INDEX)) is None:
            return problem_response(
                request,
                status=404,
                code="not_found",
                title="NotFound",
                detail=f"the console has no file {name!r}",
            )
        return _response(file, request.headers.get("if-none-match", ""))

    return router


def _read_files() -> dict[str, _File]:
    """By name; a file of a kind that we can't name to the browser is a mistake of ours."""
    found = {}
    for entry in files(__package__).joinpath("static").iterdir():
        content = entry.read_bytes()
        suffix = entry.name[entry.name.rindex(".") :]
        etag = f'"{hashlib.blake2b(content, digest_size=16).hexdigest()}"'
        found[entry.name] = _File(content, _CONTENT_TYPES[suffix], etag)
    return found


def _response(file: _File, known_etags: str) -> Response:
    headers = {**_HEADERS, "etag": file.etag}
    known = [etag.strip().removeprefix("W/") for etag in known_etags.split(",")]
    if file.etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.content_type)
