"""Page of the sizing benchmark: it says how far off predictions were, and replaces itself."""

from pathlib import Path

from adaptry.sizing.prediction import Setting
from adaptry.sizing.workload import Workload
from benchmarks.sizing.measured import Measured, difference
from benchmarks.sizing.page import DOCUMENT, END, START, Compared, block_of, write
from benchmarks.sizing.runs import Run

NOTHING = Workload([], 1)
PREDICTED = Measured(100, 0.30, 0.60, 50, 0.020, 0.050)
FIRST = Measured(100, 0.30, 0.60, 40, 0.020, 0.040)  # it was calibrated, and doesn't count
ONCE = Measured(100, 0.31, 0.60, 50, 0.020, 0.040)
TWICE = Measured(100, 0.30, 0.58, 40, 0.025, 0.050)


def compared(kind: str, setting: Setting, measured: Measured) -> Compared:
    run = Run("again" if kind == "again" else "ours", setting, NOTHING)
    return Compared(run, measured, difference(PREDICTED, measured))


def block() -> str:
    rows = [{"slots": n, "loads": each.loads} for n, each in ((4, FIRST), (2, ONCE), (2, TWICE))]
    held_out = Setting(2, 6)
    found = [
        compared("ours", Setting(4, 12), FIRST),
        compared("ours", held_out, ONCE),
        compared("again", held_out, TWICE),
    ]
    return block_of("two cores", rows, found)


def test_it_says_how_far_off_the_worst_prediction_was_and_how_far_two_runs_were_apart() -> None:
    text = block()
    assert text.startswith("two cores. 100 requests in each half")
    assert "| slots | loads |\n|-------|-------|\n| 4     | 40    |\n" in text
    assert (
        "off by up to 25.0% of the loads, 2.0 points of the hits, 20% of the first token's p50 and "
        "25% of its p99." in text
    )
    assert "apart by up to 25.0% of the loads, 2.0 points of the hits, 20% of" in text
    assert text.endswith("20% of its p99.\n")


def test_it_replaces_what_was_written_before_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before {START}old\n{END} after")
    write(block(), page)
    write("new\n", page)
    assert page.read_text() == f"before {START}new\n{END} after"
    text = DOCUMENT.read_text()
    assert (text.count(START), text.count(END)) == (1, 1)
