"""docs/console.md's table of clicks and seconds: ahead of MLflow's pages or level in each task."""

import re

from benchmarks.console.__main__ import END, START
from benchmarks.console.tasks import TASKS
from tests.support.docs.page_blocks import DOCS

ROW = re.compile(r"^\| (.+?) \| (\d+), (\d+) \| ([\d.]+) \| (?:no page|(\d+), (\d+)) \| (.+?) \|$")


def test_each_task_takes_no_more_clicks_and_keys_than_in_mlflow() -> None:
    page = (DOCS / "console.md").read_text(encoding="utf-8")
    table = page.split(START)[1].split(END)[0]
    rows = [found.groups() for line in table.splitlines() if (found := ROW.match(line))]
    assert [row[0] for row in rows] == [task.title for task in TASKS]
    for task, clicks, keys, _, their_clicks, their_keys, _ in rows:
        if their_clicks is not None:
            assert int(clicks) <= int(their_clicks), task
            assert int(clicks) + int(keys) <= int(their_clicks) + int(their_keys), task
