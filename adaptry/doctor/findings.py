"""Findings of `adaptry doctor`: the result of each check."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from adaptry.client import AdaptryError
from adaptry.terminal.errors import CommandError


class Health(StrEnum):
    """A warning may be intended; a broken check keeps a server from working."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` tells what to do, unless the check is ok."""

    check: str
    health: Health
    detail: str
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        return {
            "check": self.check,
            "health": self.health,
            "detail": self.detail,
            "fix": self.fix,
        }


Check = Callable[[], Finding]


def ok(check: str, detail: str) -> Finding:
    return Finding(check, Health.OK, detail)


def warning(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, Health.WARNING, detail, fix)


def broken(check: str, detail: str, fix: str) -> Finding:
    return Finding(check, Health.BROKEN, detail, fix)


def run_checks(checks: Iterator[tuple[str, Check]]) -> Iterator[Finding]:
    """Run the checks in order; a check that raises is a finding too."""
    for name, check in checks:
        try:
            yield check()
        except (AdaptryError, CommandError, OSError) as error:
            yield broken(name, str(error), "see the message")
