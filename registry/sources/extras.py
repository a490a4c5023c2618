"""Extras: what a kind of source needs beyond the server's own packages."""

import importlib
from types import ModuleType

from registry.errors import SourceUnsupported


def import_extra(module: str, extra: str, scheme: str) -> ModuleType:
    """Import what `adaptry[EXTRA]` brings, or a module of ours over it.

    Raises SourceUnsupported if it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise SourceUnsupported(
            f"{scheme}:// needs what adaptry[{extra}] installs beside the server: {error}"
        ) from None
