"""Unfit packages: torchvision and its kin for CUDA beside a torch for CPUs, hidden from vLLM.

vLLM's CPU build asks for them, and pip finds their builds for CUDA. transformers imports what is
there, and vLLM's import would end with `operator torchvision::nms does not exist`. Text needs none.
"""

import importlib.metadata
import sys

PACKAGES = ("torchvision", "torchaudio", "torchcodec")


def unfit_packages() -> dict[str, str]:
    """Versions of those that are installed and are not for the torch that is."""
    torch = _version_of("torch")
    if torch is None or not torch.endswith("+cpu"):
        return {}
    found = ((name, _version_of(name)) for name in PACKAGES)
    return {name: version for name, version in found if version and _is_for_cuda(version)}


def hide_unfit_packages() -> None:
    """In this process, which has to do so before it imports vLLM: they can't be imported then."""
    for name in unfit_packages():
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # so it is not found


def _is_for_cuda(version: str) -> bool:
    local = version.partition("+")[2]  # another one is of a build of one's own
    return not local or local.startswith("cu")


def _version_of(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
