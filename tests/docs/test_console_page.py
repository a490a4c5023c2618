"""docs/console.md's table of clicks and seconds: ahead of MLflow's pages or level in each task."""

import re

from benchmarks.console.__main__ import END, START, Efforts, table_of
from benchmarks.console.hand import Effort
from benchmarks.console.tasks import TASKS
from tests.support.docs.page_blocks import DOCS

MOST, FEWEST = r"(?:\d+–)?(\d+)", r"(\d+)(?:–\d+)?"  # of turns that differ: ours at worst
ROW = re.compile(
    rf"^\| (.+?) \| {MOST}, {MOST} \| ([\d.]+) \| (?:no page|{FEWEST}, {FEWEST}) \| (.+?) \|$"
)


def test_each_task_takes_no_more_clicks_and_keys_than_in_mlflow() -> None:
    page = (DOCS / "console.md").read_text(encoding="utf-8")
    table = page.split(START)[1].split(END)[0]
    rows = [found.groups() for line in table.splitlines() if (found := ROW.match(line))]
    assert [row[0] for row in rows] == [task.title for task in TASKS]
    for task, clicks, keys, _, their_clicks, their_keys, _ in rows:
        if their_clicks is not None:
            assert int(clicks) <= int(their_clicks), task
            assert int(clicks) + int(keys) <= int(their_clicks) + int(their_keys), task


def test_turns_that_took_different_clicks_are_all_counted() -> None:
    ours: list[Effort | None] = [Effort(3, 0, 0.5), Effort(4, 0, 0.9), Effort(3, 0, 0.7)]
    theirs: list[Effort | None] = [Effort(5, 9, 1.0), Effort(5, 11, 3.0), None]
    efforts: Efforts = {
        (task.title, name): [None] for task in TASKS for name in ("Adaptry", "MLflow")
    }
    first = TASKS[0].title
    efforts |= {(first, "Adaptry"): ours, (first, "MLflow"): theirs}
    line = table_of(efforts, ("Adaptry", "MLflow")).splitlines()[2]
    assert line == f"| {first} | 3–4, 0 | 0.70 | 5, 9–11 | 2.00 |"
    found = ROW.match(line)
    assert found is not None
    assert found.groups()[1:6] == ("4", "0", "0.70", "5", "9")
