"""Meaning of a panel: its description, for operators who see it for the first time."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Meaning:
    """`runbook` is the alert that watches the same thing, if there is one."""

    shows: str
    bad: str
    do: str
    runbook: str = ""

    def markdown(self) -> str:
        return f"{self.shows}\n\n**Bad:** {self.bad}\n\n**Do:** {self.do}"
