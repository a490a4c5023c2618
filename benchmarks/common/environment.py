"""Environment of the servers and engines that a benchmark starts."""

import os


def stay_offline() -> None:
    """Ask no hub for models, and report no use, unless the caller's environment says so."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
