"""deploy/container/Containerfile as its instructions."""

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CONTAINERFILE = ROOT / "deploy" / "container" / "Containerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    name: str
    value: str

    @property
    def words(self) -> list[str]:
        """Of the form that is JSON, or else as a shell would split them."""
        words: list[str] = (
            json.loads(self.value) if self.value.startswith("[") else shlex.split(self.value)
        )
        return words


def stages() -> list[list[Instruction]]:
    """Each begins with its FROM."""
    text = re.sub(r"^\s*#.*\n", "", CONTAINERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found: list[list[Instruction]] = []
    for line in filter(None, lines):
        name, _, value = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append(Instruction(name, value.strip()))
    return found


def all_of(stage: list[Instruction], name: str) -> list[Instruction]:
    return [instruction for instruction in stage if instruction.name == name]


def environment(stage: list[Instruction]) -> dict[str, str]:
    """What ENV sets."""
    pairs = [word for instruction in all_of(stage, "ENV") for word in instruction.words]
    return dict(pair.split("=", 1) for pair in pairs)
