"""Clicks, keys and seconds per task: our console beside MLflow's pages for the same task.

    make mlflow && python -m benchmarks.console --write

Both run on this machine, empty but for the same adapters, and are driven by the same hand, in
turn, A-B-B-A. A task begins on the adapter's page (or the list, or the run), loaded, and ends when
its result is shown. `--write` puts the table into docs/console.md.
"""

import argparse
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

from playwright.sync_api import Page, sync_playwright

from benchmarks.common.environment import stay_offline
from benchmarks.console.hand import Effort, Hand
from benchmarks.console.mlflow import mlflow_pages
from benchmarks.console.ours import launched, our_console
from benchmarks.console.tasks import TASKS, Registry, name_of
from tests.support.registries.mlflow import PYTHON

DOCUMENT = Path(__file__).parents[2] / "docs" / "console.md"
START, END = "<!-- tasks: written by benchmarks.console -->\n\n", "\n<!-- end of tasks -->"
Efforts = dict[tuple[str, str], list[Effort | None]]
"""By task and registry."""


def measure(sides: tuple[Registry, Registry], page: Page, rounds: int) -> Efforts:
    found: Efforts = defaultdict(list)
    first, second = sides
    for side in sides:
        side.visit_first(page)
    turns = [first, second, second, first] * rounds
    for number, side in enumerate(turns):
        for task in TASKS:
            effort = task.do(side, Hand(page), name_of(number))
            found[task.title, side.name].append(effort)
            print(f"# {number} {side.name}, {task.title}: {effort}", flush=True)
    return found


def table_of(efforts: Efforts, names: tuple[str, str]) -> str:
    lines = [
        f"| task | {' | '.join(f'{name}: clicks, keys | seconds' for name in names)} |",
        "|---|---|---|---|---|",
    ]
    for task in TASKS:
        cells = [cell for name in names for cell in _cells(efforts[task.title, name])]
        lines.append(f"| {task.title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cells(efforts: list[Effort | None]) -> tuple[str, str]:
    done = [each for each in efforts if each is not None]
    if not done:
        return "no page", "–"
    clicks, keys = (_span(sorted(getattr(each, of) for each in done)) for of in ("clicks", "keys"))
    return f"{clicks}, {keys}", f"{median(each.seconds for each in done):.2f}"


def _span(counted: list[int]) -> str:
    """Of turns that took different ways, the fewest and the most."""
    fewest, most = counted[0], counted[-1]
    return str(fewest) if fewest == most else f"{fewest}–{most}"


def write(table: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    before, rest = text.split(START)
    _, after = rest.split(END)
    DOCUMENT.write_text(f"{before}{START}{table}{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="of A-B-B-A")
    parser.add_argument("--mlflow", type=Path, default=PYTHON, help="the Python that has MLflow")
    parser.add_argument("--write", action="store_true", help="the table into docs/console.md")
    asked = parser.parse_args()
    stay_offline()
    turns = 4 * asked.rounds
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "mlflow"
        ours.mkdir()
        theirs.mkdir()
        with (
            launched(ours) as served,
            mlflow_pages(theirs, asked.mlflow, turns) as pages,
            sync_playwright() as playwright,
        ):
            console = our_console(served, turns)
            chromium = shutil.which("chromium")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            efforts = measure((console, pages), page, asked.rounds)
            browser.close()
    table = table_of(efforts, (console.name, pages.name))
    print(table)
    if asked.write:
        write(table)


if __name__ == "__main__":
    main()
