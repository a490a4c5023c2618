"""Console router: serves the console's files, with a policy that lets the browser load no others.

The files are few and small and are read once: a path is looked up among their names, never on the
disk.
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
    ".txt": "text/plain; charset=utf-8",
}
# No text becomes markup, by mistake or through an adapter's metadata: nothing that parses HTML
# accepts a string (Trusted Types), and only scripts and styles from these files run.
_HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "cache-control": "no-cache",  # stored, but revalidated each time: 304 if unchanged
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    content: bytes
    content_type: str
    etag: str


def create_console_router() -> APIRouter:
    """`/console/` and its files, from the package."""
    router = APIRouter(include_in_schema=False)
    found = _read_files()

    @router.api_route("/", methods=["GET", "HEAD"])
    @router.api_route(PREFIX, methods=["GET", "HEAD"])
    async def enter() -> Response:
        """Redirects to the slash, so that the page's links are relative to it behind any prefix."""
        return Response(status_code=307, headers={"location": f"{PREFIX.removeprefix('/')}/"})

    @router.api_route(f"{PREFIX}/{{name:path}}", methods=["GET", "HEAD"])
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
    """By name. A file of an unknown type is a defect of the package."""
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
