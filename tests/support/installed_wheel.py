"""Wheel of this checkout, built and installed into environments of its own, without a download."""

import importlib.metadata
import os
import re
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = Path(sysconfig.get_paths()["purelib"])


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment with the wheel; the checkout is not on its path."""

    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def adaptry(self) -> Path:
        return self.folder / "bin" / "adaptry"

    @property
    def packages(self) -> Path:
        (found,) = self.folder.glob("lib/python*/site-packages")
        return found


def build(folder: Path) -> Path:
    """The wheel, as `pip wheel` builds it."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("adaptry-*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Environment:
    """An environment with the wheel and nothing else."""
    venv.create(folder, symlinks=True)
    made = Environment(folder)
    options = ["--no-deps", "--no-index", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", str(made.python), "install", *options]
    subprocess.run([*command, str(wheel)], check=True, env=clean_environment())
    return made


def share_all_packages(made: Environment) -> None:
    """What is installed here, so that a server starts. The checkout's own entry is not followed."""
    (made.packages / "shared.pth").write_text(f"{PACKAGES}\n")


def share_plain_packages(made: Environment) -> None:
    """Only what the wheel's metadata asks for without an extra."""
    (metadata,) = made.packages.glob("adaptry-*.dist-info")
    wanted = list(_plain(importlib.metadata.PathDistribution(metadata)))
    seen: set[str] = set()
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        distribution = importlib.metadata.distribution(name)
        wanted += _plain(distribution)
        for top in {file.parts[0] for file in distribution.files or () if file.parts[0] != ".."}:
            if top != "__pycache__" and not (made.packages / top).exists():
                os.symlink(PACKAGES / top, made.packages / top)


def clean_environment() -> dict[str, str]:
    """As a newcomer has it: no path into the checkout, no settings."""
    return {
        name: value
        for name, value in os.environ.items()
        if name != "PYTHONPATH" and not re.match("ADAPTRY_", name, re.IGNORECASE)
    }


def _plain(distribution: importlib.metadata.Distribution) -> Iterator[str]:
    for line in distribution.requires or ():
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement.name
