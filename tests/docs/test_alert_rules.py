"""Alerts, their runbooks and their unit tests belong together; promtool runs the tests."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana import runbooks
from tests.support.servers.prometheus import promtool

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "grafana" / "rules").glob("*.yml"))
UNIT_TESTS = sorted((ROOT / "tests" / "rules").glob("*.yml"))
SECTIONS = runbooks.sections()
SECTION_PARTS = ("**What it means.**", "**See it.**", "**What to do.**")


def read(file: Path) -> Any:
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def rules_of(file: Path) -> list[dict[str, Any]]:
    return [rule for group in read(file)["groups"] for rule in group["rules"]]


FILE_OF = {rule["alert"]: file for file in RULES for rule in rules_of(file) if "alert" in rule}
ALERTS = {rule["alert"]: rule for file in RULES for rule in rules_of(file) if "alert" in rule}
RECORDED = {rule["record"]: rule for file in RULES for rule in rules_of(file) if "record" in rule}
by_alert = pytest.mark.parametrize("alert", ALERTS)


def cases_of(alert: str) -> list[dict[str, Any]]:
    """Every moment at which a unit test looks at the alert."""
    tests = [test for file in UNIT_TESTS for test in read(file)["tests"]]
    moments = [moment for test in tests for moment in test["alert_rule_test"]]
    return [moment for moment in moments if moment["alertname"] == alert]


def looked_at(test: dict[str, Any]) -> set[str]:
    return {moment["alertname"] for moment in test["alert_rule_test"]}


def test_each_alert_has_a_runbook_and_a_place_in_grafana() -> None:
    shown = [alert for alerts in runbooks.SHOWN_ON.values() for alert in alerts]
    assert sorted(ALERTS) == sorted(SECTIONS) == sorted(shown)


@by_alert
def test_an_alert_has_a_summary_and_a_runbook(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"].strip()
    assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{alert.lower()}"


@by_alert
def test_a_runbook_has_meaning_diagnosis_and_action(alert: str) -> None:
    section = SECTIONS[alert]
    places = [section.index(part) for part in SECTION_PARTS]
    assert places == sorted(places)
    seen = section[places[1] : places[2]]
    assert len(re.findall(r"^```promql\n.+?^```$", seen, re.DOTALL | re.MULTILINE)) == 1
    assert len(re.findall(r"^```sh\nadaptry .+\n```$", seen, re.MULTILINE)) == 1
    assert "\n1. " in section[places[2] :]


@by_alert
def test_an_alert_has_a_case_where_it_fires_and_one_where_it_does_not(alert: str) -> None:
    fires = {bool(moment.get("exp_alerts")) for moment in cases_of(alert)}
    assert fires == {True, False}


def run_unit_tests(file: Path) -> subprocess.CompletedProcess[str]:
    command = [promtool(), "test", "rules", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", UNIT_TESTS, ids=lambda file: file.stem)
def test_the_alerts_fire_when_they_should(file: Path) -> None:
    done = run_unit_tests(file)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("instead", ["vector(1) > 2", "vector(1)"], ids=["never", "always"])
@by_alert
def test_an_alert_that_fires_never_or_always_fails_its_unit_test(
    alert: str, instead: str, tmp_path: Path
) -> None:
    file = FILE_OF[alert]
    rules, tests = read(file), read(ROOT / "tests" / "rules" / file.name)
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        if rule.get("alert") == alert:
            rule["expr"] = instead
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules))
    tests["tests"] = [test for test in tests["tests"] if alert in looked_at(test)]
    others = [str((ROOT / "tests" / "rules" / name).resolve()) for name in tests["rule_files"]]
    tests["rule_files"] = [*(name for name in others if Path(name) != file), "rules.yml"]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    done = run_unit_tests(tmp_path / "tests.yml")
    assert done.returncode != 0
    assert f"alertname: {alert}" in done.stdout + done.stderr


@pytest.mark.parametrize("record", RECORDED)
def test_what_is_recorded_is_used(record: str) -> None:
    expressions = [rule["expr"] for rule in (*ALERTS.values(), *RECORDED.values())]
    assert any(record in text for text in (*expressions, *SECTIONS.values()))


def test_the_page_lists_every_alert_with_its_severity() -> None:
    page = (ROOT / "docs" / "dashboards.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\(runbooks\.md#(\w+)\) \| (\w+) \|", page, re.MULTILINE)
    rules = [(alert, alert.lower(), rule["labels"]["severity"]) for alert, rule in ALERTS.items()]
    assert sorted(listed) == sorted(rules)
