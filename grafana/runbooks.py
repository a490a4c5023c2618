"""Runbooks: the sections of docs/runbooks.md, shown in Grafana beside the panels."""

import re
from pathlib import Path

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models.dashboard import DashboardLinkType

PAGE = Path(__file__).parents[1] / "docs" / "runbooks.md"
FIRST_PANEL = 1000  # far above the ids of other panels
SHOWN_ON = {
    "adaptry-cache": (
        "AdaptryHitRatioCollapsed",
        "AdaptryThrash",
        "AdaptryStarvation",
        "AdaptrySlotWait",
        "AdaptryPinBudgetExhausted",
        "AdaptryLoadFailures",
        "AdaptryLoadsRefused",
        "AdaptryDrift",
        "AdaptryInStepLoads",
        "AdaptryEngineEnded",
        "AdaptryEngineDown",
        "AdaptryTargetDown",
    ),
    "adaptry-registry": (
        "AdaptryQuarantine",
        "AdaptryIngestStuck",
        "AdaptryIngestQueueStands",
        "AdaptryDatabaseDown",
        "AdaptryRatesNotShared",
        "AdaptryGuestBehind",
    ),
}
_SECTION = re.compile(r"^## (Adaptry\w+)\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)#]*)(?:#([^)]*))?\)")
_LINK_VARIABLES = "${datasource:queryparam}&${instance:queryparam}&${__url_time_range}"


def sections() -> dict[str, str]:
    """Text of each alert, in the order of the page."""
    found = _SECTION.findall(PAGE.read_text(encoding="utf-8"))
    return {alert: content.strip() for alert, content in found}


def panel_text(alert: str) -> str:
    """The alert's section for Grafana, where other sections are panels, and there are no pages."""
    return _LINK.sub(_in_grafana, sections()[alert])


def panel_number(alert: str) -> int:
    """The id of the panel that shows the alert's section."""
    return FIRST_PANEL + _dashboard_of(alert)[1]


def runbook_link(alert: str) -> dashboard.DashboardLink:
    """Opens the alert's section in full width."""
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(DashboardLinkType.LINK)
    return link.url(_address(alert))


def _in_grafana(link: re.Match[str]) -> str:
    words, page, anchor = link.groups()
    if page:
        return f"{words} (docs/{page})"
    (alert,) = (each for each in sections() if each.lower() == anchor)
    return f"[{words}]({_address(alert)})"


def _address(alert: str) -> str:
    uid, position = _dashboard_of(alert)
    return f"/d/{uid}?viewPanel={FIRST_PANEL + position}&{_LINK_VARIABLES}"


def _dashboard_of(alert: str) -> tuple[str, int]:
    for uid, alerts in SHOWN_ON.items():
        if alert in alerts:
            return uid, alerts.index(alert)
    raise LookupError(f"no dashboard shows the runbook of {alert}")
