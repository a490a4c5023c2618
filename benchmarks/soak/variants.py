"""Variants of the demo's adapters, without limit: other bytes, the same outputs.

`B @ A` stays what it is if B is doubled and A halved, to the last bit: so each variant is a version
of its own for the registry, and its answers are known.
"""

from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile

from safetensors.torch import load_file, save_file

from demo.tasks import TASKS, UPPER_V2, Task

ROOT = Path(__file__).resolve().parents[2]
CONTENTS: list[tuple[Path, Task]] = [
    *((ROOT / "demo" / "adapters" / name, task) for name, task in TASKS.items()),
    (ROOT / "demo" / "adapters-v2" / "upper", UPPER_V2),
]


@dataclass(frozen=True, slots=True)
class Content:
    """Content to register. Equal files are the same version."""

    folder: Path
    task: Task

    @property
    def size_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.folder.iterdir())


class Variants:
    """Written into one folder, named by number. The first ones are the demo's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def next(self) -> Content:
        number, self._made = self._made, self._made + 1
        source, task = CONTENTS[number % len(CONTENTS)]
        variant = number // len(CONTENTS)
        if not variant:
            return Content(source, task)
        target = self._folder / f"variant-{number}"
        target.mkdir(parents=True)
        copyfile(source / "adapter_config.json", target / "adapter_config.json")
        _write(source / "adapter_model.safetensors", target / "adapter_model.safetensors", variant)
        return Content(target, task)


def _write(source: Path, target: Path, variant: int) -> None:
    """The bits of `variant` say in which modules B is doubled and A halved."""
    tensors = load_file(source)
    modules = sorted(name for name in tensors if ".lora_A." in name)
    if variant >= 2 ** len(modules):
        raise ValueError(f"{source} has {2 ** len(modules)} variants only")
    for position, a in enumerate(modules):
        if variant >> position & 1:
            b = a.replace(".lora_A.", ".lora_B.")
            tensors[a], tensors[b] = tensors[a] / 2, tensors[b] * 2
    save_file(tensors, target, metadata={"format": "pt"})
