"""Plugins that vLLM's options name: parsers of tools and reasoning, and middleware.

`vllm serve` imports a parser's module in its own `main`, which does not run here, and only logs why
it can't.
"""

import importlib
import os
from argparse import Namespace
from collections.abc import Sequence
from importlib.machinery import all_suffixes
from pathlib import Path

from engine.vllm import compat as vllm_compat
from engine.vllm.arguments import BadArgument


def import_parsers(parsed: Namespace) -> None:
    """To be called in the process that serves; the engine's imports its own.

    Raises BadArgument; also for a parser that there is not.
    """
    for option in ("--tool-parser-plugin", "--reasoning-parser-plugin"):
        name = option.removeprefix("--").replace("-", "_")
        if plugin := getattr(parsed, name, None):
            setattr(parsed, name, _import_plugin(option, plugin))
    if parsed.enable_auto_tool_choice:
        known = vllm_compat.tool_parsers().list_registered()
        _check_known("--tool-call-parser", parsed.tool_call_parser, known)
    if reasoning := getattr(parsed, "reasoning_parser", None):
        known = vllm_compat.reasoning_parsers().list_registered()
        _check_known("--reasoning-parser", reasoning, known)


def import_middleware(names: Sequence[str]) -> None:
    """Raises BadArgument."""
    for name in names:
        module, _, member = name.rpartition(".")
        try:
            getattr(importlib.import_module(module), member)
        except Exception as error:
            raise _unusable("--middleware", name, error) from error


def _import_plugin(option: str, plugin: str) -> str:
    """A module, or a file, whose path is absolute then: vLLM takes `./` for a module's name."""
    is_file = plugin.endswith(".py") or os.sep in plugin
    try:
        if not is_file:
            importlib.import_module(plugin)
            return plugin
        path = Path(plugin).resolve()
        if path.suffix not in all_suffixes():  # vLLM would say that there is no such module
            raise ImportError("it is no Python file")
        vllms = importlib.import_module("vllm.utils.import_utils")  # once its version is known
        vllms.import_from_path(path.stem, path)  # under the name that vLLM gives it
    except Exception as error:
        raise _unusable(option, plugin, error) from error
    return str(path)


def _check_known(option: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        raise BadArgument(f"{option} {name}: there is none of that name ({', '.join(known)})")


def _unusable(option: str, name: str, error: Exception) -> BadArgument:
    reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
    return BadArgument(" ".join(f"{option} {name} can't be imported: {reason}".split()))
