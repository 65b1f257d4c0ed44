"""Turns a dashboard into the JSON that Grafana reads, by Grafana's own builders."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

from grafana_foundation_sdk.builders import (
    common,
    dashboard,
    logs,
    loki,
    prometheus,
    stat,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_model
from grafana_foundation_sdk.models import dashboard as model
from grafana_foundation_sdk.models.dashboard import DataSourceRef
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from stack.dashboards.model import Board, Panel, Query, Variable

# uids of stack/grafana/provisioning/datasources.
SOURCES = {"prometheus": "prometheus", "loki": "loki"}
_TAG = "overlord"


def to_json(board: Board) -> bytes:
    """The dashboard as a file; equal dashboards give equal bytes."""
    builder = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.description)
        .tags([_TAG])
        .refresh("30s")
        .time(f"now-{board.hours}h", "now")
        .timezone("browser")
        .tooltip(model.DashboardCursorSync.CROSSHAIR)
        .readonly()
        .link(
            dashboard.DashboardLink("Dashboards")
            .type(model.DashboardLinkType.DASHBOARDS)
            .tags([_TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for variable in board.variables:
        builder = builder.with_variable(_variable(variable))
    number = count(1)
    for row in board.rows:
        builder = builder.with_row(dashboard.Row(row.title).id(next(number)))
        for panel in row.panels:
            builder = builder.with_panel(_panel(panel).id(next(number)))
    text = json.dumps(builder.build(), cls=JSONEncoder, indent=1, sort_keys=True)
    return (text + "\n").encode()


def _variable(variable: Variable) -> dashboard.QueryVariable:
    builder = (
        dashboard.QueryVariable(variable.name)
        .label(variable.title)
        .datasource(_source("prometheus"))
        .query(f"label_values({variable.metric}, {variable.label})")
        .refresh(model.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(model.VariableSort.ALPHABETICAL_ASC)
    )
    if variable.everything:
        # Not ".*", which Loki refuses where it is all that a query asks for.
        builder = builder.include_all(True).multi(True).all_value(".+")
    return builder


def _panel(panel: Panel) -> Any:
    builder: Any = _KINDS[panel.kind](panel)
    builder = (
        builder.title(panel.title)
        .description(panel.description)
        .datasource(_source(panel.source))
        .span(panel.width)
        .height(panel.height)
    )
    if panel.step is not None:
        builder = builder.interval(f"{panel.step}s")
    for letter, query in zip("ABCDEFGH", panel.queries, strict=False):
        builder = builder.with_target(_target(panel, query).ref_id(letter))
    return builder


def _lines(panel: Panel) -> timeseries.Panel:
    builder = (
        timeseries.Panel()
        .unit(panel.unit)
        .min(0)
        .fill_opacity(30 if panel.stacked else 8)
        .show_points(common_model.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_model.LegendDisplayMode.LIST)
            .placement(common_model.LegendPlacement.BOTTOM)
            .calcs(["lastNotNull"])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_model.TooltipDisplayMode.MULTI)
            .sort(common_model.SortOrder.DESCENDING)
        )
        .thresholds(_thresholds(panel))
    )
    if panel.stacked:
        builder = builder.stacking(
            common.StackingConfig().mode(common_model.StackingMode.NORMAL).group("A")
        )
    if panel.warning is not None or panel.critical is not None:
        builder = builder.thresholds_style(
            common.GraphThresholdsStyleConfig().mode(common_model.GraphThresholdsStyleMode.LINE)
        )
    return builder


def _number(panel: Panel) -> stat.Panel:
    return (
        stat.Panel()
        .unit(panel.unit)
        .color_mode(common_model.BigValueColorMode.VALUE)
        .graph_mode(common_model.BigValueGraphMode.AREA)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False))
        .thresholds(_thresholds(panel))
    )


def _table(panel: Panel) -> table.Panel:
    return (
        table.Panel()
        .unit(panel.unit)
        .thresholds(_thresholds(panel))
        .with_transformation(model.DataTransformerConfig(id_val="merge", options={}))
        .override_by_name("Time", [model.DynamicConfigValue(id_val="custom.hidden", value=True)])
    )


def _logs(_panel: Panel) -> logs.Panel:
    return (
        logs.Panel()
        .show_time(True)
        .wrap_log_message(True)
        .enable_log_details(True)
        .sort_order(common_model.LogsSortOrder.DESCENDING)
    )


_KINDS: dict[str, Callable[[Panel], Any]] = {
    "timeseries": _lines,
    "stat": _number,
    "table": _table,
    "logs": _logs,
}


def _target(panel: Panel, query: Query) -> Any:
    target: Any
    if panel.source == "loki":
        kind = "instant" if panel.kind == "table" else "range"
        target = loki.Dataquery().expr(query.expr).query_type(kind)
    else:
        target = prometheus.Dataquery().expr(query.expr)
        target = _of_now(target) if panel.kind == "table" else target.range()
    if query.legend:
        target = target.legend_format(query.legend)
    return target.datasource(_source(panel.source))


def _of_now(query: prometheus.Dataquery) -> prometheus.Dataquery:
    return query.instant().format(PromQueryFormat.TABLE)


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    warning, critical = panel.warning, panel.critical
    steps = [model.Threshold(color="green", value=None)]
    if warning is not None and critical is not None and critical < warning:
        # Small is bad.
        steps = [
            model.Threshold(color="red", value=None),
            model.Threshold(color="orange", value=critical),
            model.Threshold(color="green", value=warning),
        ]
    else:
        if warning is not None:
            steps.append(model.Threshold(color="orange", value=warning))
        if critical is not None:
            steps.append(model.Threshold(color="red", value=critical))
    return dashboard.ThresholdsConfig().mode(model.ThresholdsMode.ABSOLUTE).steps(steps)


def _source(kind: str) -> DataSourceRef:
    return DataSourceRef(type_val=kind, uid=SOURCES[kind])
