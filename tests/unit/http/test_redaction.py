"""Secrets that came where they don't belong, and the same in logs."""

import io
import logging
import secrets
from collections.abc import Iterator

import pytest

from registry.auth.key_secret import new_key
from registry.redaction import HIDDEN, hide_secrets_in_logs, mask_keys, redact, register_secrets
from registry.webhooks.signing import new_secret


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger whose lines can be read; records are made as before afterwards."""
    before = logging.getLogRecordFactory()
    written = io.StringIO()
    logger = logging.getLogger(f"redaction.{secrets.token_hex(4)}")
    handler = logging.StreamHandler(written)
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)  # whatever a library has set for all
    logger.propagate = False
    hide_secrets_in_logs()
    hide_secrets_in_logs()
    yield logger, written
    logging.setLogRecordFactory(before)
    logger.removeHandler(handler)


def test_keys_of_ours_are_known_by_their_form() -> None:
    key, _ = new_key()
    shown = redact(f"there is no adapter {key!r}, nor {key}x")
    assert key[17:] not in shown
    assert key[:17] in shown, "which key it is helps to revoke it"


def test_an_answer_stays_as_long_as_it_was() -> None:
    key, _ = new_key()
    body = f'{{"input": "{key}"}}'.encode()
    assert len(mask_keys(body)) == len(body)
    assert key[17:].encode() not in mask_keys(body)
    assert mask_keys(b"adp_ is how they begin") == b"adp_ is how they begin"


def test_signing_secrets_and_passwords_in_urls_are_too() -> None:
    secret = new_secret()
    assert secret[6:] not in redact(f"secret {secret}")
    shown = redact("can't reach postgresql://adaptry:s3cr3t-word@db:5432/adaptry?ssl=1")
    assert shown == f"can't reach postgresql://{HIDDEN}@db:5432/adaptry?ssl=1"
    assert redact("mail a@b.example: see https://host/a@b") == (
        "mail a@b.example: see https://host/a@b"
    )


def test_a_password_may_have_a_slash_and_a_path_an_at_sign() -> None:
    """Both URLs are taken: the database's by SQLAlchemy, which ends a password at the @."""
    shown = redact("can't reach postgresql+asyncpg://me:s3cr3t/w?rd@db/x")
    assert shown == f"can't reach postgresql+asyncpg://{HIDDEN}@db/x"
    for plain in ("http://host:8080/a@b", "https://host/a:b@c", "hf://org/model@main"):
        assert redact(plain) == plain


def test_what_this_process_was_given_is_known() -> None:
    password, token, other = (secrets.token_hex(8) for _ in range(3))
    register_secrets(
        urls=[
            f"postgresql://u:{password}%2F@host/db",
            f"postgresql://u:{other}/x@host/db",
            "postgresql://host/db",
            "http://[bad",
        ],
        environment={"HF_TOKEN": token, "HOME": "/home/somebody", "AWS_SESSION_TOKEN": "short"},
    )
    for secret in (f"{password}%2F", f"{password}/", f"{other}/x", token):
        assert secret not in redact(f"x {secret} y")
    assert redact("/home/somebody is short") == "/home/somebody is short"


def test_lines_of_the_log_have_none(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, written = log
    key, _ = new_key()
    secret = key[17:]
    logger.warning("with %s and %d, %s", key, 3, ValueError(key))
    logger.warning(f"in the text {key}")
    logger.warning("by name %(key)s", {"key": key})
    try:
        raise ValueError(f"postgresql://u:{secret}@host")
    except ValueError:
        logger.exception("with a traceback")
    assert secret not in written.getvalue()
    assert "and 3, " in written.getvalue()
    assert "Traceback" in written.getvalue()


def test_the_access_log_has_no_queries() -> None:
    before = logging.getLogRecordFactory()
    hide_secrets_in_logs()
    try:
        arguments = ("127.0.0.1:1", "GET", "/api/v1/search?key=anything", "1.1", 200)
        record = logging.getLogRecordFactory()(
            "uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', arguments, None
        )
    finally:
        logging.setLogRecordFactory(before)
    assert record.getMessage() == '127.0.0.1:1 - "GET /api/v1/search?… HTTP/1.1" 200'
