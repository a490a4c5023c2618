"""Redaction of secrets in log lines and responses.

Adaptry's own secrets are recognized by their format. Others are redacted if this process was given
them, or if they are credentials in a URL.
"""

import logging
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote

HIDDEN = "[hidden]"

_KEY = re.compile(r"(adp_[0-9a-f]{12}_)[A-Za-z0-9_-]{43}")
_SECRET_LENGTH = 43
_KEY_BYTES = re.compile(rb"(adp_[0-9a-f]{12}_)[A-Za-z0-9_-]{43}")
_SIGNING = re.compile(r"whsec_[A-Za-z0-9+/=]{20,}")
# SQLAlchemy takes a slash in a password as it is; after a port it begins a path, perhaps with an @.
# Not two in a row: those begin the next URL, and no text is read twice.
_USERINFO = re.compile(r"(?<=://)[^/\s@:'\"]*:(?!\d{1,5}/)[^/\s@'\"]+(?:/[^/\s@'\"]+)*/?(?=@)")
# of a database's URL, as SQLAlchemy reads it: its password may hold a slash, a quote or a space
_CREDENTIALS = re.compile(r"(?<=://)[^:/]*:([^@]*)(?=@)")

# Environment variables that libraries, vLLM and Adaptry read secrets from.
_VARIABLES = (
    "ADAPTRY_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "PGPASSWORD",
    "VLLM_API_KEY",
)
_MIN_SECRET_LENGTH = 8  # a shorter one would hide unrelated text
_ACCESS = "uvicorn.access"
_PATH = 2  # index in the arguments of an access log record
_PLAIN_TYPES = (int, float, type(None))

_secrets: set[str] = set()


def redact(text: str) -> str:
    """The text without secrets."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return redact_keys(text)


def redact_keys(text: str) -> str:
    """The text without what looks like a secret, independent of this process: safe to store."""
    if "adp_" in text:
        text = _KEY.sub(rf"\1{HIDDEN}", text)
    if "whsec_" in text:
        text = _SIGNING.sub(f"whsec_{HIDDEN}", text)
    return _USERINFO.sub(HIDDEN, text) if "@" in text else text


def hide_credentials(database_url: str) -> str:
    """The URL without user and password, whatever characters are in them."""
    return _CREDENTIALS.sub(HIDDEN, database_url, count=1)


def mask_keys(body: bytes) -> bytes:
    """The body with Adaptry's API keys masked, in the same length."""
    if b"adp_" not in body:
        return body
    return _KEY_BYTES.sub(lambda key: key[1] + b"*" * _SECRET_LENGTH, body)


def register_secrets(
    *, urls: Iterable[str] = (), secrets: Iterable[str] = (), environment: Mapping[str, str] = {}
) -> None:
    """Redact these too: passwords in databases' URLs, and known variables of the environment."""
    found = {password for url in urls if (password := _password(url))}
    found |= {unquote(password) for password in found}
    found |= {environment[name] for name in _VARIABLES if name in environment}
    found |= set(secrets)
    _secrets.update(secret for secret in found if len(secret) >= _MIN_SECRET_LENGTH)


def register_process_secrets(*urls: str) -> None:
    """Secrets in this process's environment and arguments."""
    register_secrets(urls=urls, environment=os.environ)


def _password(url: str) -> str | None:
    found = _CREDENTIALS.search(url)
    return None if found is None else found[1]


# ---- logs ----------------------------------------------------------------------------------


def hide_secrets_in_logs() -> None:
    """Redact every log record created after this call, by any library."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_secrets", False):
        return

    def make_record(*arguments: Any, **more: Any) -> logging.LogRecord:
        record = make(*arguments, **more)
        _redact_record(record)
        return record

    make_record.hides_secrets = True  # type: ignore[attr-defined]  # read by the next call
    logging.setLogRecordFactory(make_record)


def _redact_record(record: logging.LogRecord) -> None:
    if isinstance(record.msg, str):
        record.msg = redact(record.msg)
    if isinstance(record.args, tuple):
        record.args = tuple(map(_redact_argument, record.args))
        if record.name == _ACCESS and len(record.args) > _PATH:
            record.args = _strip_query(record.args)
    elif isinstance(record.args, Mapping):
        record.args = {name: _redact_argument(value) for name, value in record.args.items()}
    if record.exc_info and record.exc_info[1] is not None:
        text = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if (clean := redact(text)) != text:
            record.exc_text = clean
            record.exc_info = None


def _redact_argument(value: object) -> object:
    if isinstance(value, _PLAIN_TYPES):
        return value
    text = str(value)
    clean = redact(text)
    return value if clean == text else clean


def _strip_query(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """Queries may contain keys and search terms: neither belongs in a log."""
    path = str(arguments[_PATH])
    shown = path.partition("?")[0] + ("?…" if "?" in path else "")
    return (*arguments[:_PATH], shown, *arguments[_PATH + 1 :])
