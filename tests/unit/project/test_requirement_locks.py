"""Locked requirements: each has hashes, and every installer checks them."""

import json
import re
from datetime import date
from pathlib import Path

import pytest
from pip_requirements_parser import RequirementsFile

from scripts.audit import EXCEPTIONS, LOCKS, WITHOUT_HASHES, read_exceptions

ROOT = Path(__file__).parents[3]
REQUIREMENTS = ROOT / "requirements"


def requirements_of(lock: str) -> RequirementsFile:
    return RequirementsFile.from_file(str(REQUIREMENTS / f"{lock}.txt"))


@pytest.mark.parametrize("lock", sorted({*LOCKS} - {*WITHOUT_HASHES}))
def test_every_locked_requirement_has_one_version_and_hashes(lock: str) -> None:
    parsed = requirements_of(lock)
    assert parsed.requirements
    assert not parsed.invalid_lines
    for requirement in parsed.requirements:
        assert requirement.is_pinned, requirement.name
        assert requirement.hash_options, requirement.name
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in requirement.hash_options)


def test_every_locked_npm_package_has_a_hash_and_names_no_host() -> None:
    lock = json.loads((REQUIREMENTS / "azurite/package-lock.json").read_text())
    packages = {path: each for path, each in lock["packages"].items() if path}
    assert "node_modules/azurite" in packages
    for path, each in packages.items():
        assert each["integrity"].startswith("sha512-"), path
        assert "resolved" not in each, path


def test_only_one_package_has_no_hash() -> None:
    files = {path.stem for path in REQUIREMENTS.glob("*.txt")}
    assert files - set(LOCKS) == {"overrides-cpu"}
    assert WITHOUT_HASHES == ("torch-cpu",)
    (torch,) = requirements_of("torch-cpu").requirements
    assert torch.name == "torch"
    assert torch.is_pinned


def test_every_installer_requires_hashes() -> None:
    """Except torch for CPUs, and the project itself, which then has no dependencies left."""
    files = [*sorted(ROOT.glob("scripts/*.sh")), ROOT / "Makefile", *ROOT.glob(".ci/*")]
    files += list(ROOT.glob("deploy/**/Containerfile"))
    commands = [
        command
        for file in files
        for command in re.sub(r"\\\n\s*", "", file.read_text(encoding="utf-8")).splitlines()
        if re.search(r"\bpip\"? install\b", command) and not command.lstrip().startswith("#")
    ]
    assert len(commands) == 6
    without = [command for command in commands if "--require-hashes" not in command]
    assert [re.findall(r'"\$torch"|-e \.', command) for command in without] == [
        ['"$torch"'],
        ["-e ."],
        [],
    ]
    older = 'uv pip install --quiet --no-config --python "$folder'  # beside .venv, to try it
    assert [older in command for command in without] == [False, False, True]
    assert all("--no-deps" in command for command in without if older not in command)


def test_every_exception_of_the_audit_has_a_reason_and_a_future_date() -> None:
    for each in read_exceptions():
        assert len(each.reason) > 20, each.id
        assert each.until > date.today(), each.id
        locked = {str(r.name).lower() for lock in LOCKS for r in requirements_of(lock).requirements}
        assert each.package in locked


@pytest.mark.parametrize(
    "entry",
    [
        'id = "A"\npackage = "b"\nuntil = 2030-01-01',
        'id = "A"\npackage = "b"\nreason = "why"',
        'id = "A"\npackage = "b"\nreason = " "\nuntil = 2030-01-01',
        'id = "A"\npackage = "b"\nreason = "why"\nuntil = "soon"',
    ],
)
def test_an_exception_without_a_reason_or_a_date_is_refused(entry: str, tmp_path: Path) -> None:
    file = tmp_path / EXCEPTIONS.name
    file.write_text(f"[[exception]]\n{entry}\n")
    with pytest.raises(ValueError, match=r"audit\.toml"):
        read_exceptions(file)
