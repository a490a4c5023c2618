"""Checks of the files that vLLM's options name: before an engine starts, which takes a minute.

vLLM and uvicorn read them one after the other, some only when the engine is there, and end with a
traceback.
"""

import json
import os
import ssl
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Any

from engine.vllm import compat as vllm_compat
from engine.vllm.arguments import BadArgument
from engine.vllm.option_files.plugins import import_middleware, import_parsers

_LOG_CONFIG = "--log-config-file"
_LOG_CONFIG_VARIABLE = "VLLM_LOGGING_CONFIG_PATH"
_TLS_FILES = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs")


def use_option_files(parsed: Namespace) -> None:
    """Set up logging and import plugins, as `vllm serve` does; check the others.

    Raises BadArgument.
    """
    _configure_logging(parsed)
    _check_template(parsed.chat_template)
    _check_tls(parsed)
    _check_media_folder(parsed.allowed_local_media_path)
    import_parsers(parsed)
    import_middleware(parsed.middleware)


def check_logging_variable() -> None:
    """vLLM reads its file while it is imported. Raises BadArgument."""
    if file := os.environ.get(_LOG_CONFIG_VARIABLE):
        _check_log_config(_LOG_CONFIG_VARIABLE, file)
        try:
            import_module("vllm.logger")
        except Exception as error:  # as above
            raise BadArgument(f"{_LOG_CONFIG_VARIABLE} {file}: {_reason(error)}") from error


def refuse_tls(parsed: Namespace, mode: str) -> None:
    """Where our own HTTP server serves no client. Raises BadArgument."""
    for name in _TLS_FILES:
        if getattr(parsed, name):
            raise BadArgument(
                f"{_option(name)} has no effect with {mode}: let a proxy in front speak TLS"
            )


def _configure_logging(parsed: Namespace) -> None:
    """As soon as vLLM would, for our own lines look the same. Not if nothing was asked for."""
    asked = getattr(parsed, "logging_config", None)
    file = getattr(parsed, "log_config_file", None) or getattr(asked, "pylogging_config_file", None)
    if file:
        _check_log_config(_LOG_CONFIG, file)
    if not file and asked is None and not hasattr(parsed, "log_level"):
        return
    try:
        vllm_compat.configure_logging(parsed)
    except Exception as error:  # each part of a configuration raises its own type
        raise BadArgument(f"{_LOG_CONFIG} {file}: {_reason(error)}") from error


def _check_log_config(option: str, file: str) -> None:
    """Whether it can be read, and is an object. Raises BadArgument."""
    try:
        content = json.loads(_read(option, file))
    except (ValueError, RecursionError) as error:
        raise BadArgument(f"{option} {file} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise BadArgument(f"{option} {file} is no logging configuration: it holds no object")


def _check_template(template: str | None) -> None:
    """vLLM has found that it is a path that exists, or a template itself."""
    if template is not None and "\n" not in template and os.path.exists(template):
        try:
            _read("--chat-template", template)
        except UnicodeDecodeError as error:
            raise BadArgument(f"--chat-template {template} is no text: {error.reason}") from error


def _check_tls(parsed: Namespace) -> None:
    """As uvicorn uses them."""
    for name in _TLS_FILES:
        if (file := getattr(parsed, name)) is not None:
            _open(_option(name), file)
    if parsed.ssl_certfile is None:
        if parsed.ssl_keyfile is not None:
            raise BadArgument("--ssl-keyfile needs --ssl-certfile")
        return
    context, files = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), "--ssl-certfile"
    if parsed.ssl_keyfile is not None:
        files += " with --ssl-keyfile"
    _try(files, lambda: context.load_cert_chain(parsed.ssl_certfile, parsed.ssl_keyfile))
    _try("--ssl-cert-reqs", lambda: ssl.VerifyMode(parsed.ssl_cert_reqs))
    if parsed.ssl_ca_certs is not None:
        _try("--ssl-ca-certs", lambda: context.load_verify_locations(parsed.ssl_ca_certs))
    if parsed.ssl_ciphers is not None:
        _try("--ssl-ciphers", lambda: context.set_ciphers(parsed.ssl_ciphers))


def _check_media_folder(folder: str) -> None:
    if folder and not Path(folder).is_dir():
        raise BadArgument(f"--allowed-local-media-path {folder}: there is no such folder")


def _try(options: str, use: Any) -> None:
    try:
        use()
    except (OSError, ValueError) as error:  # of `ssl` too
        raise BadArgument(f"{options} can't be used: {_reason(error)}") from error


def _read(option: str, file: str) -> str:
    _open(option, file)
    return Path(file).read_text(encoding="utf-8")


def _open(option: str, file: str) -> None:
    try:
        with open(file, "rb") as opened:
            opened.read(1)
    except (OSError, ValueError) as error:  # a null byte is a ValueError
        raise BadArgument(f"{option} {file}: {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """`logging` says what it was about, and its cause says what is wrong."""
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return said if error.__cause__ is None else f"{said}: {_reason(error.__cause__)}"


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
