"""Files shipped with the code, in a wheel or a checkout: demo, settings, dashboards, runbooks."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_IN_A_WHEEL = _PACKAGE / "shipped"


def shipped(name: str) -> Path:
    """The folder `demo`, `configs`, `docs` or `grafana`."""
    folder = _IN_A_WHEEL if _IN_A_WHEEL.is_dir() else _PACKAGE.parent
    return folder / name
