"""What `adaptry doctor` says of one thing that it has looked at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from adaptry.terminal.errors import CommandError


class Health(StrEnum):
    """A warning may be as somebody wants it; what is broken keeps a server from working."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


@dataclass(frozen=True, slots=True)
class Finding:
    """`fix` says what to do, unless all is well."""

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


def found(checks: Iterator[tuple[str, Check]]) -> Iterator[Finding]:
    """One after the other; a check that fails itself is a finding too."""
    for name, check in checks:
        try:
            yield check()
        except (CommandError, OSError) as error:
            yield broken(name, str(error), "see the message")
