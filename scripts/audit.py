"""Audit of locked requirements for vulnerabilities by pip-audit: `audit.py [LOCK…] [options]`.

Accepted vulnerabilities are in requirements/audit.toml. Exits 0 if there is nothing else, 1 if
there is, and 2 if the service that knows could not be asked: then nothing is known.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK_FOLDER = ROOT / "requirements"
EXCEPTIONS = LOCK_FOLDER / "audit.toml"
LOCKS = ("bootstrap", "cpu", "cuda", "dev", "mlflow", "peers", "torch-cpu")
WITHOUT_HASHES = ("torch-cpu",)  # docs/decisions/0005 says why
NOT_AUDITED = 2


@dataclass(frozen=True, slots=True)
class Vulnerability:
    """A vulnerability of a locked package. `names`: its id and aliases."""

    package: str
    version: str
    names: Sequence[str]
    fixed_in: Sequence[str]

    def line(self) -> str:
        fixed = ", ".join(self.fixed_in) or "no version"
        return f"{self.package} {self.version}: {self.names[0]}, fixed in {fixed}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A reviewed vulnerability: the reason why it is accepted, and until when."""

    id: str
    package: str
    reason: str
    until: date

    def covers(self, found: Vulnerability, today: date) -> bool:
        return self.package == found.package and self.id in found.names and today <= self.until


class NotAudited(Exception):
    """The vulnerability service did not respond."""


def read_exceptions(file: Path = EXCEPTIONS) -> list[Allowed]:
    """Raises ValueError for one without id, package, reason or date."""
    entries = tomllib.loads(file.read_text(encoding="utf-8")).get("exception", [])
    try:
        exceptions = [Allowed(**entry) for entry in entries]
    except TypeError as error:
        raise ValueError(f"{file.name}: {error}") from error
    for each in exceptions:
        if type(each.until) is not date or not each.reason.strip():
            raise ValueError(f"{file.name}: {each.id} has no reason or no date")
    return exceptions


def audit(lock: str, options: Sequence[str]) -> Mapping[str, Any]:
    """pip-audit's report on one lock. Raises NotAudited."""
    with (
        tempfile.NamedTemporaryFile(suffix=".json") as into,
        tempfile.NamedTemporaryFile("w", suffix=".txt") as public,
    ):
        # advisories know no local versions, such as 2.13.0+cpu
        public.write(re.sub(r"(==[\w.]+)\+\w+", r"\1", (LOCK_FOLDER / f"{lock}.txt").read_text()))
        public.flush()
        pinned = "--no-deps" if lock in WITHOUT_HASHES else "--require-hashes"
        command = [
            *(sys.executable, "-m", "pip_audit", "--requirement", public.name),
            *(pinned, "--disable-pip", "--progress-spinner", "off"),
            *("--format", "json", "--output", into.name, *options),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        content = Path(into.name).read_text(encoding="utf-8")
    if not content:
        said = done.stderr.strip().splitlines()
        raise NotAudited(said[-1] if said else f"pip-audit ended with {done.returncode}")
    report: Mapping[str, Any] = json.loads(content)
    return report


def vulnerabilities(report: Mapping[str, Any]) -> list[Vulnerability]:
    """Of pip-audit's JSON."""
    return [
        Vulnerability(
            package=each["name"],
            version=each["version"],
            names=(found["id"], *found.get("aliases", ())),
            fixed_in=tuple(found["fix_versions"]),
        )
        for each in report["dependencies"]
        for found in each.get("vulns", ())
    ]


def skipped(report: Mapping[str, Any]) -> list[str]:
    """The packages that the service does not know, with pip-audit's reasons."""
    return [each["skip_reason"] for each in report["dependencies"] if "skip_reason" in each]


def main(arguments: Sequence[str]) -> int:
    named = [argument for argument in arguments if argument in LOCKS]
    options = [argument for argument in arguments if argument not in LOCKS]
    locks = named or LOCKS
    try:
        exceptions = read_exceptions()
        reports = [audit(lock, options) for lock in locks]
    except (NotAudited, ValueError) as error:
        return fail(f"nothing is known: {error}")
    found = {each.line(): each for report in reports for each in vulnerabilities(report)}
    code = say(list(found.values()), exceptions, locks, date.today())
    unknown = dict.fromkeys(reason for report in reports for reason in skipped(report))
    if unknown:
        return fail(f"{len(unknown)} packages are unknown there: {'; '.join(list(unknown)[:3])}, …")
    return code


def fail(message: str) -> int:
    print(f"audit: {message}", file=sys.stderr)
    return NOT_AUDITED


def say(
    found: Sequence[Vulnerability],
    exceptions: Sequence[Allowed],
    locks: Sequence[str],
    today: date,
) -> int:
    """Print open findings and unused exceptions; returns the exit code."""
    wrong = 0
    for each in found:
        reasons = [e.reason for e in exceptions if e.covers(each, today)]
        wrong += not reasons
        print(f"{'allowed' if reasons else 'VULNERABLE'}  {each.line()}", *reasons, sep="  ")
    if tuple(locks) == LOCKS:
        for exception in exceptions:
            if not any(exception.covers(each, today) for each in found):
                wrong += 1
                print(f"OUT OF DATE  the exception for {exception.id} of {exception.package}")
    if not wrong:
        print(f"audit: nothing found in {', '.join(locks)}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
