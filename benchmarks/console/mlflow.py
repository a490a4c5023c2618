"""MLflow's registry pages, driven, over a server of its own."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from benchmarks.common.servers import free_port
from benchmarks.console.hand import Effort, Hand
from benchmarks.console.tasks import ALIAS, DESCRIPTION, MANY, PART, name_of
from tests.support.registries.mlflow import mlflow_server, run_client
from tests.support.servers.adaptry_serve import ROOT

FILL = """
import json, sys, mlflow
url, folder, names = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
mlflow.set_tracking_uri(url)
client = mlflow.MlflowClient(url)
mlflow.set_experiment("adapters")
runs = []
for name in names:
    client.create_registered_model(name)
    for number in (1, 2, 3):
        with mlflow.start_run(run_name=f"{name}-{number}") as run:
            mlflow.log_artifacts(folder, "adapter")
            mlflow.log_param("rank", 4 * number)
        if number < 3:
            client.create_model_version(name, f"runs:/{run.info.run_id}/adapter", run.info.run_id)
    client.set_registered_model_alias(name, "default", "1")
    runs.append(run.info.run_id)
print()
print(json.dumps({"experiment": run.info.experiment_id, "runs": dict(zip(names, runs))}))
"""
MODEL_FILE = """artifact_path: adapter
flavors: {python_function: {loader_module: mlflow.pyfunc}}
model_uuid: 0123456789abcdef0123456789abcdef
utc_time_created: '2026-01-01 00:00:00'
"""
"""What MLflow's own `log_model` writes beside the weights: its pages register no folder without."""


class MlflowPages:
    name = "MLflow"

    def __init__(self, url: str, experiment: str, runs: dict[str, str]) -> None:
        self.url = url
        self._experiment = experiment
        self._runs = runs

    def visit_first(self, page: Page) -> None:
        page.goto(f"{self.url}/#/models")
        page.get_by_role("button", name="Try it now").click()  # it praises its aliases
        page.get_by_role("link", name="customer-000000").wait_for()

    def find(self, hand: Hand, adapter: str) -> Effort:
        page = hand.page
        row = page.get_by_role("link", name="customer-000000")
        hand.start_at(f"{self.url}/#/models", row)
        hand.click(page.get_by_role("textbox", name="Search registered models"))
        hand.write(PART)
        hand.press("Enter")
        page.get_by_role("link", name="customer-000420").wait_for()
        row.wait_for(state="detached")
        return hand.effort(page.get_by_role("link", name="customer-000429"))

    def register(self, hand: Hand, adapter: str) -> Effort:
        """From the run to which code has logged the files: no page uploads any."""
        page = hand.page
        folder = page.get_by_role("main").get_by_text("adapter", exact=True)
        run = f"#/experiments/{self._experiment}/runs/{self._runs[adapter]}/artifacts"
        hand.start_at(f"{self.url}/{run}", folder)
        hand.click(folder)
        hand.click(page.get_by_role("button", name="Register model"))
        dialog = page.get_by_role("dialog")
        hand.click(dialog.get_by_role("combobox"))
        hand.write(adapter)
        hand.click(page.get_by_title(adapter, exact=True).last)
        hand.click(dialog.get_by_role("button", name="Register"))
        dialog.wait_for(state="hidden")  # nothing else on the page tells of it
        return hand.effort(folder.first)

    def promote(self, hand: Hand, adapter: str) -> Effort:
        return self._move(hand, adapter, "Version 2")

    def roll_back(self, hand: Hand, adapter: str) -> Effort:
        """The same again: who rolls back has to know where the alias was."""
        return self._move(hand, adapter, "Version 1")

    def _move(self, hand: Hand, adapter: str, version: str) -> Effort:
        page = self._open(hand, adapter)
        row = page.get_by_role("row", name=version)
        hand.click(row.get_by_role("button", name="Add").last)
        dialog = page.get_by_role("dialog")
        hand.click(dialog.get_by_role("combobox"))
        hand.write(ALIAS)
        hand.press("Enter")
        hand.click(dialog.get_by_role("button", name="Save aliases"))
        dialog.wait_for(state="hidden")  # the table shows it when it is loaded again
        return hand.effort(row)

    def edit(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        main = page.get_by_role("main")
        hand.click(main.get_by_role("button", name="Edit", exact=True))
        hand.click(main.locator("textarea"))
        hand.write(DESCRIPTION)
        hand.click(main.get_by_role("button", name="Save"))
        main.get_by_text(DESCRIPTION).wait_for()
        hand.click(main.get_by_role("button", name="Tags").first)
        hand.click(main.get_by_role("textbox", name="tag name"))
        hand.write("crm")
        hand.press("Tab")
        hand.write("1")  # a tag has a value here
        hand.press("Enter")
        return hand.effort(main.get_by_role("cell", name="crm"))

    def compare(self, hand: Hand, adapter: str) -> Effort:
        page = self._open(hand, adapter)
        for version in ("Version 1", "Version 2"):
            hand.click(page.get_by_role("row", name=version).get_by_role("checkbox"))
        hand.click(page.get_by_test_id("compareButton"))
        return hand.effort(page.get_by_role("row", name="rank 4 8"))

    def retire(self, hand: Hand, adapter: str) -> Effort:
        """It has no state for a version that isn't used any more: deleted for good."""
        page = self._open(hand, adapter)
        hand.click(page.get_by_role("link", name="Version 2"))
        hand.click(page.get_by_role("button", name="Open header dropdown menu"))
        hand.click(page.get_by_role("menuitem", name="Delete"))
        hand.click(page.get_by_role("dialog").get_by_role("button", name="Delete"))
        page.get_by_role("row", name="Version 1").wait_for()
        return hand.effort(page.get_by_role("heading", name=adapter))

    def see_changes(self, hand: Hand, adapter: str) -> None:
        """No page: it shows when a model was changed last, and not by whom or what it was."""

    def look_back(self, hand: Hand, adapter: str) -> None:
        """No page: it serves no adapters, so there are no slots and no history of them."""

    def _open(self, hand: Hand, adapter: str) -> Page:
        row = hand.page.get_by_role("row", name="Version 1")
        hand.start_at(f"{self.url}/#/models/{adapter}", row)
        return hand.page


@contextmanager
def mlflow_pages(folder: Path, python: Path, turns: int) -> Iterator[MlflowPages]:
    files = folder / "adapter"
    shutil.copytree(ROOT / "demo" / "adapters" / "upper", files)
    (files / "MLmodel").write_text(MODEL_FILE)
    names = [name_of(turn) for turn in range(turns)]
    stored = f"--artifacts-destination={folder}/artifacts"
    with mlflow_server(folder, free_port(), stored, python=python) as url:
        filled = run_client(url, FILL, str(files), json.dumps(names), python=python)
        found = json.loads(filled.strip().splitlines()[-1])
        _add_many(folder / "mlflow.db")
        yield MlflowPages(url, found["experiment"], found["runs"])


def _add_many(database: Path) -> None:
    rows = [(f"customer-{n:06d}",) for n in range(MANY)]
    with sqlite3.connect(database) as connection:
        connection.executemany(
            "INSERT INTO registered_models (name, creation_time, last_updated_time, workspace) "
            "VALUES (?, 1, 1, 'default')",
            rows,
        )
