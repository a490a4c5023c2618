"""Model paths: sources as clients of vLLM write them, among them a repository's id on the Hub."""

import re
from urllib.parse import unquote, urlsplit

from registry.errors import InvalidSource
from registry.sources.urls import is_url

_FILE = "file://"
_HUB_ID = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[^/\s]+)?", re.ASCII)


def is_local(text: str) -> bool:
    """Whether it names a folder of this machine, or perhaps a repository."""
    return _is_file_url(text) or not is_url(text)


def local_path(text: str) -> str:
    """The path of a `file://` URL; any other text as it is. Raises InvalidSource."""
    if not _is_file_url(text):
        return text
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise InvalidSource(f"this is no URL: {error}") from None
    if parts.netloc not in ("", "localhost"):
        raise InvalidSource("a file:// URL names a folder of this machine: file:///path/to/it")
    if parts.query or parts.fragment:
        raise InvalidSource("a file:// URL has a path and nothing else")
    return unquote(parts.path)


def hub_url(text: str) -> str | None:
    """`hf://` before `organisation/repository` or `organisation/repository@revision`."""
    return f"hf://{text}" if _HUB_ID.fullmatch(text) else None


def _is_file_url(text: str) -> bool:
    return text[: len(_FILE)].lower() == _FILE
