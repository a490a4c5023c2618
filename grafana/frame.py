"""Frame of a dashboard: the variables, links, rows, runbooks and panel ids around its panels."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.models import dashboard as model

from grafana.panels import SOURCE, PanelBuilder, prose
from grafana.runbooks import SHOWN_ON, panel_number, panel_text

TAG = "adaptry"


@dataclass(frozen=True, slots=True)
class Row:
    """A heading and the panels below it, from left to right."""

    title: str
    panels: tuple[PanelBuilder, ...]
    collapsed: bool = False


@dataclass(frozen=True, slots=True)
class Frame:
    """One dashboard. `instances` is a series that each server of its kind exports."""

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    instances: str
    variables: tuple[dashboard.QueryVariable, ...] = ()
    annotations: tuple[model.AnnotationQuery, ...] = field(default=())


def variable(name: str, label: str, query: str) -> dashboard.QueryVariable:
    """One of a label's values, queried again when the time range changes."""
    request: dict[str, object] = {"qryType": 1, "query": query, "refId": name}
    made = dashboard.QueryVariable(name).label(label).query(request).datasource(SOURCE)
    return made.refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(
        model.VariableSort.ALPHABETICAL_ASC
    )


def build_dashboard(frame: Frame) -> model.Dashboard:
    made = (
        dashboard.Dashboard(frame.title)
        .uid(frame.uid)
        .description(frame.description)
        .tags([TAG])
        .refresh("10s")
        .time("now-30m", "now")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .links(_links())
        .with_variable(
            dashboard.DatasourceVariable("datasource").label("Source").type("prometheus")
        )
        .with_variable(_instance(frame.instances))
    )
    for each in frame.variables:
        made.with_variable(each)
    for row in (*frame.rows, *_runbooks(frame.uid)):
        _add(made, row)
    built = made.build()
    built.annotations.list_val = [*frame.annotations]
    _number(built.panels or ())
    return built


def _links() -> list[Builder[model.DashboardLink]]:
    others = dashboard.DashboardLink("Adaptry").type(model.DashboardLinkType.DASHBOARDS)
    alerts = dashboard.DashboardLink("Alerts").type(model.DashboardLinkType.LINK)
    return [
        others.tags([TAG]).include_vars(True).keep_time(True),
        alerts.url("/alerting/list?search=Adaptry").icon("bell"),
    ]


def _instance(exported: str) -> dashboard.QueryVariable:
    made = variable("instance", "Instance", f"label_values({exported}, instance)")
    everything = model.VariableOption(text="All", value="$__all")
    return made.multi(True).include_all(True).all_value(".*").current(everything)


def _runbooks(uid: str) -> Iterable[Row]:
    alerts = SHOWN_ON.get(uid, ())
    panels = [prose(alert, panel_text(alert), identity=panel_number(alert)) for alert in alerts]
    if panels:
        yield Row("Runbooks: what each alert means and what to do", tuple(panels), collapsed=True)


def _add(made: dashboard.Dashboard, row: Row) -> None:
    """Grafana expects a collapsed row's panels within it, and an open row's panels after it."""
    heading = dashboard.Row(row.title).collapsed(row.collapsed)
    if not row.collapsed:
        made.with_row(heading)
    for panel in row.panels:
        (heading if row.collapsed else made).with_panel(panel)
    if row.collapsed:
        made.with_row(heading)


def _number(panels: Iterable[model.Panel | model.RowPanel]) -> None:
    """Every panel needs an id. Runbooks have fixed ones, because links point at them."""
    for number, panel in enumerate(panels, start=1):
        if isinstance(panel, model.RowPanel) or panel.id_val is None:
            panel.id_val = number
