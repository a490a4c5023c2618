"""Checks of untrusted file names."""

from registry.errors import InvalidAdapter
from registry.errors.defects import Defect


def check_path(path: str, where: str) -> None:
    """Raises InvalidAdapter (`unsafe_path`) if the path leaves its folder."""
    if ".." in path.split("/") or path.startswith("/") or "\\" in path or "\0" in path:
        raise InvalidAdapter(Defect.UNSAFE_PATH, f"{quote_name(path)} in {where} leads out of it")


def quote_name(name: str) -> str:
    """Quoted, printable and shortened."""
    return ascii(name if len(name) <= 120 else f"{name[:120]}…")
