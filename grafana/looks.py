"""Looks of panels: colours, thresholds, legends. Few colours, each with one meaning."""

from collections.abc import Mapping
from typing import TypeAlias

from grafana_foundation_sdk.builders import common, dashboard
from grafana_foundation_sdk.models import common as enums
from grafana_foundation_sdk.models import dashboard as model

# (from this value on, colour); the first has no value
Steps: TypeAlias = tuple[tuple[float | None, str], ...]

PLAIN: Steps = ((None, "text"),)
NONE_WANTED: Steps = ((None, "green"), (1, "red"))
HIGH_IS_GOOD: Steps = ((None, "red"), (0.5, "orange"), (0.8, "green"))
ERRORS: Steps = ((None, "green"), (0.01, "orange"), (0.05, "red"))
COLOURS = {
    "gpu": "blue",
    "host": "purple",
    "gpu_hit": "blue",
    "host_hit": "purple",
    "miss": "orange",
    "limit": "red",
    "free": "text",
    "idle": "light-blue",
    "leased": "blue",
    "pinned": "purple",
    "down": "red",
    "completed": "green",
    "succeeded": "green",
    "refused": "orange",
    "failed": "red",
    "cancelled": "text",
}
TIERS = ("gpu", "host")
REQUEST_OUTCOMES = ("completed", "refused", "failed", "cancelled")
CACHE_OUTCOMES = ("gpu_hit", "host_hit", "miss")
SLOT_STATES = ("free", "idle", "leased", "pinned", "down")
JOB_OUTCOMES = ("succeeded", "failed", "cancelled")


def thresholds(steps: Steps) -> dashboard.ThresholdsConfig:
    marks = [model.Threshold(value=value, color=colour) for value, colour in steps]
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(marks)


def colour_mode(mode: model.FieldColorModeId) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(mode)


def fixed_colour(colour: str) -> model.DynamicConfigValue:
    return model.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})


def value_names(names: Mapping[str, str]) -> model.ValueMap:
    """Words shown instead of values."""
    options = {value: model.ValueMappingResult(text=name) for value, name in names.items()}
    return model.ValueMap(options=options)


def last_value() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def legend() -> common.VizLegendOptions:
    below = common.VizLegendOptions().placement(enums.LegendPlacement.BOTTOM)
    return below.show_legend(True).display_mode(enums.LegendDisplayMode.LIST).calcs([])


def tooltip() -> common.VizTooltipOptions:
    all_lines = common.VizTooltipOptions().mode(enums.TooltipDisplayMode.MULTI)
    return all_lines.sort(enums.SortOrder.DESCENDING)
