"""Panels: one function for each kind, over grafana-foundation-sdk's builders."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from grafana_foundation_sdk.builders import (
    bargauge,
    common,
    dashboard,
    heatmap,
    prometheus,
    stat,
    statetimeline,
    table,
    text,
    timeseries,
)
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import common as enums
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models import heatmap as heat
from grafana_foundation_sdk.models.prometheus import PromQueryFormat
from grafana_foundation_sdk.models.text import TextMode

from grafana.looks import (
    COLOURS,
    PLAIN,
    Steps,
    colour_mode,
    fixed_colour,
    last_value,
    legend,
    thresholds,
    tooltip,
    value_names,
)
from grafana.meaning import Meaning
from grafana.promql import Queries, Query
from grafana.runbooks import runbook_link

PanelBuilder: TypeAlias = Builder[model.Panel]
SOURCE = model.DataSourceRef(type_val="prometheus", uid="${datasource}")


def number(
    title: str,
    meaning: Meaning,
    expression: str,
    *,
    unit: str = "short",
    steps: Steps = PLAIN,
    empty: str = "no traffic",
    names: Mapping[str, str] | None = None,
    width: int = 3,
) -> stat.Panel:
    """One value with its colour. `names`: words shown for values; `empty`: shown for no value."""
    panel = (
        stat.Panel()
        .height(4)
        .span(width)
        .unit(unit)
        .min(0)
        .no_value(empty)
        .thresholds(thresholds(steps))
        .color_scheme(colour_mode(model.FieldColorModeId.THRESHOLDS))
        .color_mode(enums.BigValueColorMode.VALUE)
        .graph_mode(enums.BigValueGraphMode.AREA)
        .reduce_options(last_value())
    )
    if names:
        panel.mappings([value_names(names)])
    _describe(panel, title, meaning, (Query(expression),))
    return panel


def graph(
    title: str,
    meaning: Meaning,
    queries: Queries,
    *,
    unit: str = "short",
    width: int = 8,
    stacked: bool = False,
    steps: Steps = (),
    coloured: Iterable[str] = (),
) -> timeseries.Panel:
    """Lines over time, or areas on top of each other.

    `steps` are drawn as dashed lines; the lines listed in `coloured` have the colours of `looks`.
    """
    mode = enums.StackingMode.NORMAL if stacked else enums.StackingMode.NONE
    panel = (
        timeseries.Panel()
        .height(8)
        .span(width)
        .unit(unit)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if stacked else 6)
        .show_points(enums.VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(mode).group("A"))
        .color_scheme(colour_mode(model.FieldColorModeId.PALETTE_CLASSIC_BY_NAME))
        .legend(legend())
        .tooltip(tooltip())
    )
    if unit == "percentunit":
        panel.max(1)
    if steps:
        dashed = common.GraphThresholdsStyleConfig().mode(enums.GraphThresholdsStyleMode.DASHED)
        panel.thresholds(thresholds(steps)).thresholds_style(dashed)
    for name in coloured:
        panel.override_by_name(name, [fixed_colour(COLOURS[name])])
    _describe(panel, title, meaning, _as_tuple(queries))
    return panel


def areas(title: str, meaning: Meaning, queries: Queries, **options: Any) -> timeseries.Panel:
    """Parts of a whole over time."""
    return graph(title, meaning, queries, stacked=True, **options)


def heatmap_of(
    title: str, meaning: Meaning, buckets: str, *, traced: bool = False
) -> heatmap.Panel:
    """How often each duration occurred over time. `traced`: with exemplars as dots."""
    colour = (
        heatmap.HeatmapColorOptions().mode(heat.HeatmapColorMode.SCHEME).scheme("Oranges").steps(64)
    )
    panel = (
        heatmap.Panel()
        .height(8)
        .span(8)
        .calculate(False)
        .color(colour)
        .cell_gap(1)
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .y_axis(heatmap.YAxisConfig().unit("s").axis_placement(enums.AxisPlacement.LEFT))
        .exemplars_color("rgba(255,0,255,0.7)")
        .show_y_histogram()
        .hide_legend()
    )
    _describe(panel, title, meaning, (Query(buckets, "{{le}}", exemplars=traced),), heat=True)
    return panel


def ranking(
    title: str,
    meaning: Meaning,
    expression: str,
    *,
    legend: str = "{{adapter}}",
    unit: str = "short",
    width: int = 8,
    link: tuple[str, str] | None = None,
) -> bargauge.Panel:
    """Bars of current values, for the results of a `topk`. `link` is (text, address)."""
    panel = (
        bargauge.Panel()
        .height(8)
        .span(width)
        .unit(unit)
        .min(0)
        .no_value("none")
        .orientation(enums.VizOrientation.HORIZONTAL)
        .display_mode(enums.BarGaugeDisplayMode.BASIC)
        .value_mode(enums.BarGaugeValueMode.TEXT)
        .thresholds(thresholds(((None, "blue"),)))
        .reduce_options(last_value())
    )
    if link:
        panel.data_links([dashboard.DashboardLink(link[0]).url(link[1])])
    _describe(panel, title, meaning, (Query(expression, legend),), instant=True)
    return panel


def listing(
    title: str, meaning: Meaning, expression: str, columns: Mapping[str, str], *, width: int = 12
) -> table.Panel:
    """Labels as a table. `columns` are (label, heading), from the left."""
    order = {label: position for position, label in enumerate(columns)}
    organised = model.DataTransformerConfig(
        id_val="organize",
        options={
            "includeByName": dict.fromkeys(columns, True),
            "indexByName": order,
            "renameByName": dict(columns),
        },
    )
    panel = table.Panel().height(8).span(width).no_value("none").with_transformation(organised)
    panel.show_header(True).align(enums.FieldTextAlignment.AUTO).inspect(False)
    query = (Query(expression),)
    _describe(panel, title, meaning, query, instant=True, as_table=True)
    return panel


def states(title: str, meaning: Meaning, query: Query, *, width: int = 12) -> statetimeline.Panel:
    """Bands that change colour when the value changes."""
    panel = (
        statetimeline.Panel()
        .height(8)
        .span(width)
        .fill_opacity(70)
        .line_width(0)
        .show_value(enums.VisibilityMode.AUTO)
        .merge_values(True)
        .color_scheme(colour_mode(model.FieldColorModeId.PALETTE_CLASSIC))
        .legend(legend())
        .tooltip(tooltip())
    )
    _describe(panel, title, meaning, (query,))
    return panel


def prose(title: str, markdown: str, *, identity: int, width: int = 12) -> text.Panel:
    """Explanatory text, without data."""
    panel = text.Panel().title(title).id(identity).height(11).span(width)
    return panel.mode(TextMode.MARKDOWN).content(markdown)


def _describe(
    panel: Any,
    title: str,
    meaning: Meaning,
    queries: Iterable[Query],
    *,
    heat: bool = False,
    instant: bool = False,
    as_table: bool = False,
) -> None:
    """Common parts of all kinds: their builders share no base class with these methods."""
    panel.title(title).description(meaning.markdown()).datasource(SOURCE)
    if meaning.runbook:
        panel.links([runbook_link(meaning.runbook)])
    for position, query in enumerate(queries):
        target = prometheus.Dataquery().expr(query.expression).ref_id(chr(ord("A") + position))
        target.legend_format(query.legend).exemplar(query.exemplars).datasource(SOURCE)
        target = target.instant() if instant else target.range()
        if heat or as_table:
            target.format(PromQueryFormat.HEATMAP if heat else PromQueryFormat.TABLE)
        panel.with_target(target)


def _as_tuple(queries: Queries) -> tuple[Query, ...]:
    return queries if isinstance(queries, tuple) else (queries,)
