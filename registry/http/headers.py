"""Headers of a request: the one that is read, and none of the others decoded."""

from starlette.types import Scope


def find_header(scope: Scope, name: bytes) -> str | None:
    """The first of that name, which is in lower case; None if there is none."""
    for key, value in scope["headers"]:
        if key == name:
            text: str = value.decode("latin-1")
            return text
    return None


def is_form(scope: Scope) -> bool:
    """Whether the body is a form of several parts."""
    return (find_header(scope, b"content-type") or "").lower().startswith("multipart/")


def find_headers(scope: Scope, name: bytes) -> list[str]:
    """All of that name, which is in lower case."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
