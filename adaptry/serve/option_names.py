"""Names of the options of `adaptry serve`: a mistyped one is found before vLLM is imported."""

import importlib.metadata
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from adaptry.serve.preflight import ENGINES
from adaptry.terminal.errors import UsageError

LISTED = "0.32."
_LIST = Path(__file__).with_name("vllm-0.32-options.txt")


def check_names(for_vllm: Sequence[str], ours: Sequence[str]) -> None:
    """Refuse what neither we nor the installed vLLM know; another release has other options.

    Raises UsageError.
    """
    if not (_find_installed() or "").startswith(LISTED):
        return
    known = {*vllm_options(), *ours}
    for argument in for_vllm:
        name = argument.partition("=")[0].partition(".")[0]
        if len(name) > 2 and name.startswith("--") and name not in known:
            close = get_close_matches(name, sorted(known), n=2)
            hint = f": did you mean {' or '.join(close)}?" if close else ""
            raise UsageError(f"there is no option {name}{hint}")


def vllm_options() -> list[str]:
    """All long options of vLLM's parser, which a test compares with it."""
    return _LIST.read_text(encoding="utf-8").split()


def _find_installed() -> str | None:
    for name in ENGINES:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
