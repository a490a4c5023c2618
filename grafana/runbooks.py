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
_LINK_VARIABLES = "${datasource:queryparam}&${instance:queryparam}&${__url_time_range}"


def sections() -> dict[str, str]:
    """Text of each alert, in the order of the page."""
    found = _SECTION.findall(PAGE.read_text(encoding="utf-8"))
    return {alert: content.strip() for alert, content in found}


def panel_number(alert: str) -> int:
    """The id of the panel that shows the alert's section."""
    return FIRST_PANEL + _dashboard_of(alert)[1]


def runbook_link(alert: str) -> dashboard.DashboardLink:
    """Opens the alert's section in full width."""
    uid, position = _dashboard_of(alert)
    address = f"/d/{uid}?viewPanel={FIRST_PANEL + position}&{_LINK_VARIABLES}"
    link = dashboard.DashboardLink(f"Runbook: {alert}").type(DashboardLinkType.LINK)
    return link.url(address)


def _dashboard_of(alert: str) -> tuple[str, int]:
    for uid, alerts in SHOWN_ON.items():
        if alert in alerts:
            return uid, alerts.index(alert)
    raise LookupError(f"no dashboard shows the runbook of {alert}")
