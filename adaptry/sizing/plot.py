"""Plot of a sizing: one SVG with hit ratio, first token, loads and wait over each dimension."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from adaptry.sizing.prediction import Prediction
from adaptry.sizing.sweep import Sizing, Sweep

_WIDTH, _HEIGHT, _MARGIN = 300, 190, 52
_GAP = 24
_TICK = 24
_COLORS = ("#2563eb", "#d97706")
_NAMES = {"slots": "slots", "host_places": "host places", "replicas": "replicas"}


@dataclass(frozen=True, slots=True)
class _Chart:
    """`is_ratio`: from 0 to 100 %; else a logarithmic axis."""

    title: str
    curves: Sequence[tuple[str, Callable[[Prediction], float]]]
    is_ratio: bool = False


_CHARTS = (
    _Chart(
        "hit ratio, %",
        (
            ("in a slot", lambda each: each.slot_hit_ratio * 100),
            ("in memory", lambda each: each.memory_hit_ratio * 100),
        ),
        is_ratio=True,
    ),
    _Chart(
        "first token, ms",
        (
            ("p50", lambda each: each.first_token_p50 * 1000),
            ("p99", lambda each: each.first_token_p99 * 1000),
        ),
    ),
    _Chart("loads per 1,000 requests", (("loads", lambda each: each.loads_per_request * 1000),)),
    _Chart("wait for a slot p99, ms", (("wait", lambda each: each.wait_p99 * 1000),)),
)


def draw(sizing: Sizing) -> str:
    """SVG: a row of charts for each dimension. A ring marks the knee, a dot what was chosen."""
    rows = [each for each in sizing.sweeps if len(each.predictions) > 1]
    width = len(_CHARTS) * (_WIDTH + _GAP) + _GAP
    height = len(rows) * (_HEIGHT + _GAP) + _GAP + 20
    goal = sizing.goal
    title = f"first token within {goal.first_token_seconds:g} s for {goal.share:.1%}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_GAP, 18, f"Goal: {title}. ○ knee, ● chosen: {_chosen(sizing)}"),
    ]
    for row, sweep in enumerate(rows):
        for column, chart in enumerate(_CHARTS):
            x, y = _GAP + column * (_WIDTH + _GAP), _GAP + 10 + row * (_HEIGHT + _GAP)
            parts += [f'<g transform="translate({x},{y})">', *_chart(chart, sweep), "</g>"]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _chosen(sizing: Sizing) -> str:
    setting = sizing.setting
    return f"{setting.slots} slots, {setting.host_places} host places, {setting.replicas} replicas"


def _chart(chart: _Chart, sweep: Sweep) -> list[str]:
    values = sweep.values
    curves = [[read(each) for each in sweep.predictions] for _, read in chart.curves]
    left, right, top, bottom = _MARGIN, _WIDTH - 6, 18, _HEIGHT - 30
    across = _scale(values[0], values[-1], left, right, logarithmic=True)
    least, most = _limits(chart, curves)
    up = _scale(least, most, bottom, top, logarithmic=not chart.is_ratio)
    parts = [
        _text(left, 10, chart.title, weight="bold"),
        _line(left, bottom, right, bottom),
        _line(left, bottom, left, top),
        _text((left + right) / 2, _HEIGHT - 4, _NAMES[sweep.over], anchor="middle"),
    ]
    for value in _ticks(values, across):
        parts.append(_text(across(value), bottom + 13, str(value), anchor="middle"))
    for level in _levels(chart, least, most):
        parts.append(_text(left - 4, up(level) + 4, f"{level:g}", anchor="end"))
        parts.append(_line(left, up(level), right, up(level), color="#e5e7eb"))
    for (name, _), curve, color in zip(chart.curves, curves, _COLORS, strict=False):
        points = [(across(v), up(max(y, least))) for v, y in zip(values, curve, strict=True)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.5"/>')
        for place, fill in ((sweep.knee, "white"), (sweep.chosen, color)):
            x, y = points[place]
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4.5 if fill == "white" else 2.5}" '
                f'fill="{fill}" stroke="{color}"/>'
            )
        last = chart.curves[-1][0] == name
        parts.append(_text(right if last else right - 66, 10, name, anchor="end", color=color))
    return parts


def _limits(chart: _Chart, curves: Sequence[Sequence[float]]) -> tuple[float, float]:
    if chart.is_ratio:
        return 0.0, 100.0
    positive = [value for curve in curves for value in curve if value > 0]
    least, most = min(positive, default=1.0), max(positive, default=10.0)
    least = max(least, most / 1e4)
    return 10 ** math.floor(math.log10(least)), 10 ** math.ceil(math.log10(most * 1.001))


def _levels(chart: _Chart, least: float, most: float) -> list[float]:
    if chart.is_ratio:
        return [0, 25, 50, 75, 100]
    first, last = round(math.log10(least)), round(math.log10(most))
    return [10.0**power for power in range(first, last + 1)]


def _ticks(values: Sequence[int], across: Callable[[float], float]) -> list[int]:
    """Those that fit beside each other; the last one always."""
    ticks = [values[-1]]
    for value in reversed(values[:-1]):
        if across(ticks[-1]) - across(value) >= _TICK:
            ticks.append(value)
    return ticks


def _scale(
    least: float, most: float, start: float, end: float, *, logarithmic: bool
) -> Callable[[float], float]:
    def place(value: float) -> float:
        if most <= least:
            return start
        if logarithmic:
            share = math.log(value / least) / math.log(most / least)
        else:
            share = (value - least) / (most - least)
        return start + share * (end - start)

    return place


def _line(x1: float, y1: float, x2: float, y2: float, color: str = "#6b7280") -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{color}"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "start",
    color: str = "#111827",
    weight: str = "normal",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}" '
        f'font-weight="{weight}">{escape(text)}</text>'
    )
