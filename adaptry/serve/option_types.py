"""Types of the options of `adaptry serve`: each parses one value or raises ArgumentTypeError."""

import argparse
import shlex
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from adaptry.serve.profile import with_dashes
from registry.database.urls import check_url
from registry.sources.urls import UrlRules

MAX_REPLICAS = 10_000


def database_url(text: str) -> str:
    try:
        check_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"this URL does not work here ({error})") from error
    return text


def folder(text: str) -> Path:
    if not text:  # an unset variable of a script would mean the working directory
        raise argparse.ArgumentTypeError("this names no folder")
    return Path(text)


def source_url(text: str) -> str:
    try:
        UrlRules([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def host_name(text: str) -> str:
    try:
        encoded = text.encode("idna")
    except UnicodeError:
        encoded = b""
    if not encoded:
        raise argparse.ArgumentTypeError(f"{text!r} is not a host")
    return text


def engine_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.path not in ("", "/"):
        raise argparse.ArgumentTypeError(f"{text!r} is no server (http://HOST:PORT)")
    return f"{parts.scheme}://{parts.netloc}"


def replica_count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_REPLICAS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of replicas (1 to {MAX_REPLICAS})")
    return int(text)


def replica_class(text: str) -> tuple[int, tuple[str, ...]]:
    """The number of engines, then their arguments, as a shell would split them."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} can't be read: {error}") from error
    if len(words) < 2 or not words[1].startswith("-"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number and arguments of `vllm serve`")
    return replica_count(words[0]), tuple(map(with_dashes, words[1:]))


def port_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port (0 to 65535)")
    return int(text)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the host."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
