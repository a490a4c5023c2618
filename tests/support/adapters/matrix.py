"""Matrix of base models and kinds of adapters: what inspection says of each, and what is true.

A cell is true if what is accepted answers as PEFT does, over HTTP and with the offline class, and
if vLLM alone refuses what is refused, or answers otherwise than PEFT. `main` prints what was found
into docs/inspection.md: a table of kinds by base model, and one of refusals by kind of engine.
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
from tests.support.adapters.unserved_kinds import UNSERVED

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "inspection.md"
FOUND = ROOT / "build" / "matrix"
START, END = "<!-- matrix: written by `make matrix` -->", "<!-- end of the matrix -->"
REFUSALS_START, REFUSALS_END = (
    "<!-- refusals: written by `make matrix` -->",
    "<!-- end of the refusals -->",
)
SHOWN_REFUSING = ("llama", "olmo2", "qwen3-embed", "llama-reward")
REFUSING = (*SHOWN_REFUSING, "olmo2-narrow")  # base models that UNSERVED is tried on
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


Cells = Mapping[str, str]


def table(folder: Path = FOUND, printed: str = "") -> str:
    """A row for each base model that ran, now or when the table was `printed`."""
    rows = ["| base model | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    old = {title: dict(zip(KINDS, cells, strict=True)) for title, *cells in _rows(printed)[1:]}
    for name, base in BASES.items():
        cells = _found(name, folder) or old.get(base.title)
        if cells is not None:
            shown = (cells.get(kind, NOT_MADE) for kind in KINDS)
            rows.append(f"| {base.title} | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def refusals(folder: Path = FOUND, printed: str = "") -> str:
    """Of what a configuration names, by kind of engine: again of those that ran."""
    head, *old_rows = _rows(printed) or [[]]
    ran: dict[str, Cells] = {}
    for name in SHOWN_REFUSING:
        title = BASES[name].title
        old = {row[0]: row[head.index(title)] for row in old_rows} if title in head else None
        cells = _found(f"{name}-refusals", folder) or old
        if cells is not None:
            ran[title] = cells
    rows = [f"| adapter | code | {' | '.join(ran)} |", "|---" * (len(ran) + 2) + "|"]
    for what, (code, _) in UNSERVED.items():
        shown = (cells.get(what, NOT_MADE).removeprefix(f"`{code}`: ") for cells in ran.values())
        rows.append(f"| {what} | `{code}` | " + " | ".join(shown) + " |")
    return "\n".join(rows)


def _found(name: str, folder: Path) -> Cells | None:
    file = folder / f"{name}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def _rows(printed: str) -> list[list[str]]:
    """The cells of a table in Markdown, without the line under its head."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def main() -> None:
    page = PAGE.read_text()
    for start, end, write in ((START, END, table), (REFUSALS_START, REFUSALS_END, refusals)):
        before, opened, rest = page.partition(start)
        printed, closed, after = rest.partition(end)
        if not opened or not closed:
            sys.exit(f"{PAGE} has no place for {start}")
        page = f"{before}{start}\n\n{write(FOUND, printed)}\n\n{end}{after}"
    PAGE.write_text(page)


if __name__ == "__main__":
    main()
