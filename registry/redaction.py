"""Takes secrets out of what is logged or answered, should one have come where it does not belong.

Ours have a form by which they are known anywhere; of others those are known that this process was
given, and what stands in a URL before the host.
"""

import logging
import os
import re
import traceback
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

HIDDEN = "[hidden]"

_KEY = re.compile(r"(adp_[0-9a-f]{12}_)[A-Za-z0-9_-]{43}")
_SECRET_LENGTH = 43
_KEY_BYTES = re.compile(rb"(adp_[0-9a-f]{12}_)[A-Za-z0-9_-]{43}")
_SIGNING = re.compile(r"whsec_[A-Za-z0-9+/=]{20,}")
_USERINFO = re.compile(r"(?<=://)[^/\s@:'\"]*:[^/\s@'\"]+(?=@)")

# What libraries and vLLM read their secrets from, and ours.
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
_MIN_SECRET_LENGTH = 8  # less would hide half of what is said
_ACCESS = "uvicorn.access"
_PATH = 2  # among the arguments of a line of the access log
_PLAIN_TYPES = (int, float, type(None))

_secrets: set[str] = set()


def redact(text: str) -> str:
    """The same text, but for secrets."""
    for secret in _secrets:
        text = text.replace(secret, HIDDEN)
    return redact_keys(text)


def redact_keys(text: str) -> str:
    """The same text, but for what looks like a secret, wherever it runs: also fit to be kept."""
    if "adp_" in text:
        text = _KEY.sub(rf"\1{HIDDEN}", text)
    if "whsec_" in text:
        text = _SIGNING.sub(f"whsec_{HIDDEN}", text)
    return _USERINFO.sub(HIDDEN, text) if "@" in text else text


def mask_keys(body: bytes) -> bytes:
    """As many bytes, without keys of ours."""
    if b"adp_" not in body:
        return body
    return _KEY_BYTES.sub(lambda key: key[1] + b"*" * _SECRET_LENGTH, body)


def register_secrets(
    *, urls: Iterable[str] = (), secrets: Iterable[str] = (), environment: Mapping[str, str] = {}
) -> None:
    """From now on these are hidden too: of URLs the passwords, of the environment what we know."""
    found = {password for url in urls if (password := _password(url))}
    found |= {unquote(password) for password in found}
    found |= {environment[name] for name in _VARIABLES if name in environment}
    found |= set(secrets)
    _secrets.update(secret for secret in found if len(secret) >= _MIN_SECRET_LENGTH)


def register_process_secrets(*urls: str) -> None:
    """Those of this process's environment and arguments."""
    register_secrets(urls=urls, environment=os.environ)


def _password(url: str) -> str | None:
    try:
        return urlsplit(url).password
    except ValueError:
        return None


# ---- logs ----------------------------------------------------------------------------------


def hide_secrets_in_logs() -> None:
    """Every record that is made from now on, whoever makes it."""
    make = logging.getLogRecordFactory()
    if getattr(make, "hides_secrets", False):
        return

    def make_record(*arguments: Any, **more: Any) -> logging.LogRecord:
        record = make(*arguments, **more)
        _redact_record(record)
        return record

    make_record.hides_secrets = True  # type: ignore[attr-defined]  # a mark for the next call
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
    """As it is, unless its text has a secret."""
    if isinstance(value, _PLAIN_TYPES):
        return value
    text = str(value)
    clean = redact(text)
    return value if clean == text else clean


def _strip_query(arguments: tuple[object, ...]) -> tuple[object, ...]:
    """People put keys there; and what was searched for is nobody's business."""
    path = str(arguments[_PATH])
    shown = path.partition("?")[0] + ("?…" if "?" in path else "")
    return (*arguments[:_PATH], shown, *arguments[_PATH + 1 :])
