"""The installed version of Adaptry."""

from importlib.metadata import PackageNotFoundError, version


def adaptry_version() -> str:
    try:
        return version("adaptry")
    except PackageNotFoundError:  # run from a folder that was never installed
        return "0"
