"""Matrix of base models and kinds of adapters: what inspection says of each, and what is true.

A cell is true if what is accepted answers as PEFT does, over HTTP and with the offline class, and
if vLLM alone refuses what is refused, or answers otherwise than PEFT. `main` prints a table of what
was found into docs/inspection.md.
"""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.support.adapters.peft_kinds import (
    ALONE,
    Answer,
    Kind,
    configured,
    lora,
    renamed,
    without,
)
from tests.support.adapters.tiny_bases import BASES

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "inspection.md"
FOUND = ROOT / "build" / "matrix"
START, END = "<!-- matrix: written by `make matrix` -->", "<!-- end of the matrix -->"
MAX_RANK = 8
NOT_MADE = "–"

OF_AUTO_MODEL = "names of `AutoModel`"  # right is what the adapter does under PEFT's other names

GENERATES, CLASSIFIES = frozenset({"generate"}), frozenset({"classify"})
EVERY = frozenset({"generate", "embed", "classify"})

KINDS: Mapping[str, tuple[frozenset[str], Callable[[], Kind]]] = {
    "queries and values": (EVERY, lora),
    "all linear layers": (EVERY, lambda: lora(target_modules="all-linear")),
    "ranks and alphas by module": (
        EVERY,
        lambda: lora(
            target_modules=["q_proj", "v_proj", "o_proj"],
            rank_pattern={"v_proj": 8, r"layers\.0\..*o_proj": 2},
            alpha_pattern={"q_proj": 32},
            use_rslora=True,
        ),
    ),
    "the embedding": (EVERY, lambda: lora(target_modules=["embed_tokens"], options=ALONE)),
    "the head": (GENERATES, lambda: lora(target_modules=["lm_head"], options=ALONE)),
    "without its classification head": (
        CLASSIFIES,
        lambda: lora(without_head, options={}),
    ),
    "a whole head": (GENERATES, lambda: lora(modules_to_save=["lm_head"])),
    "whole norms": (EVERY, lambda: lora(modules_to_save=["input_layernorm"])),
    "DoRA": (EVERY, lambda: lora(use_dora=True)),
    "a bias in the pair": (EVERY, lambda: lora(lora_bias=True)),
    "single tokens": (EVERY, lambda: lora(trainable_token_indices=[74, 75])),
    OF_AUTO_MODEL: (
        GENERATES,
        lambda: lora(renamed("base_model.model.model.", "base_model.model.")),
    ),
}


def without_head(folder: Path) -> None:
    """As an adapter of a classifier whose head was not trained."""
    without("score")(folder)
    configured(modules_to_save=None, task_type=None)(folder)  # with one PEFT asks for the head


def cell(code: str | None, own: Answer | None, stock: Answer | str, peft: Answer | None) -> str:
    """`code`: of the refusal; `own`: our answer if there is none; `stock`: vLLM's, or its error.

    `peft`: None where PEFT can't load it, which makes no cell true.
    """
    if code is None:
        is_same = own is not None and peft is not None and own.equals(peft)
        return "identical" if is_same else "WRONG"
    if isinstance(stock, str):
        return f"`{code}`: vLLM refuses it too"
    if peft is None or stock.equals(peft):
        return f"`{code}`, BUT SERVED BY VLLM"
    return f"`{code}`: vLLM answers otherwise"


def write_found(base: str, cells: Mapping[str, str], folder: Path = FOUND) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{base}.json").write_text(json.dumps(cells, indent=1))


def table(folder: Path = FOUND) -> str:
    """Only what ran."""
    found = {name: folder / f"{name}.json" for name in BASES}
    ran = {name: json.loads(file.read_text()) for name, file in found.items() if file.is_file()}
    rows = ["| base model | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    for name, cells in ran.items():
        shown = (cells.get(kind, NOT_MADE) for kind in KINDS)
        rows.append(f"| {BASES[name].title} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def main() -> None:
    before, start, rest = PAGE.read_text().partition(START)
    _, end, after = rest.partition(END)
    if not start or not end:
        sys.exit(f"{PAGE} has no place for the matrix")
    PAGE.write_text(f"{before}{START}\n\n{table()}\n\n{END}{after}")


if __name__ == "__main__":
    main()
