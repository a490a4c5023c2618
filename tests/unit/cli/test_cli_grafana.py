"""`adaptry grafana export`: what an alert names as its runbook is there, and can be opened."""

import json
import re
from pathlib import Path

import pytest
import yaml

from adaptry.cli import main

EXPORT = ["grafana", "export"]


def annotations(folder: Path) -> list[dict[str, str]]:
    """Of all alerts in the exported rules."""
    files = sorted((folder / "grafana/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    return [rule["annotations"] for group in groups for rule in group["rules"] if "alert" in rule]


def test_each_alert_s_runbook_is_a_section_in_the_folder(tmp_path: Path) -> None:
    assert main([*EXPORT, str(tmp_path)]) == 0
    for annotation in annotations(tmp_path):
        page, _, anchor = annotation["runbook"].partition("#")
        headings = re.findall(r"^## (\w+)$", (tmp_path / page).read_text(), re.MULTILINE)
        assert anchor in map(str.lower, headings)


def test_the_exported_page_names_no_other_page_as_a_link(tmp_path: Path) -> None:
    assert main([*EXPORT, str(tmp_path)]) == 0
    links = re.findall(r"\]\(([^)]+)\)", (tmp_path / "docs/runbooks.md").read_text())
    assert links
    assert {link[0] for link in links} == {"#"}


def test_where_the_page_is_published_alerts_get_its_address(tmp_path: Path) -> None:
    address = "https://wiki.example.com/runbooks.html?view=plain"
    assert main([*EXPORT, str(tmp_path), "--runbooks", address]) == 0
    found = annotations(tmp_path)
    assert {each["runbook_url"].partition("#")[0] for each in found} == {address}
    assert not any("runbook" in each for each in found)


@pytest.mark.parametrize("address", ["", "wiki", "ftp://a/b", "https://a/b#c", "https://a/b c: d"])
def test_what_is_no_address_of_a_page_is_refused(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*EXPORT, str(tmp_path / "new"), "--runbooks", address]) == 2
    assert "--runbooks" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_files_of_an_earlier_export_are_replaced_only_if_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*EXPORT, str(tmp_path), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert str(tmp_path / "docs/runbooks.md") in written
    (tmp_path / "docs/runbooks.md").write_text("mine")
    assert main([*EXPORT, str(tmp_path)]) == 1
    assert "--replace" in capsys.readouterr().err
    assert (tmp_path / "docs/runbooks.md").read_text() == "mine"
    assert main([*EXPORT, str(tmp_path), "--replace"]) == 0
    assert (tmp_path / "docs/runbooks.md").read_text() != "mine"
