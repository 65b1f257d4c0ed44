"""What a dashboard is made of here: a few kinds of panels, and what each of them asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["timeseries", "stat", "table", "logs"]
Source = Literal["prometheus", "loki"]


@dataclass(frozen=True)
class Query:
    """One question of a panel.

    Args:
        expr: PromQL or LogQL; may use the dashboard's variables and Grafana's own.
        legend: name of a series, with {{label}} for a label's value.
    """

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """A panel.

    Args:
        title: what it shows.
        queries: what it asks.
        kind: how it shows it.
        unit: Grafana's name of the unit, such as bytes, percentunit, s, reqps.
        description: what a reader has to know.
        width: columns of 24.
        height: rows of about 30 pixels.
        source: which datasource is asked.
        stacked: whether series are stacked.
        warning: value from which it is yellow, or None.
        critical: value from which it is red, or None; below `warning` when small is bad.
        step: least seconds between two points, or None to have as many as the panel is wide.
        quiet: whether no answer is a good answer, as with errors that did not happen.
    """

    title: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    description: str = ""
    width: int = 12
    height: int = 8
    source: Source = "prometheus"
    stacked: bool = False
    warning: float | None = None
    critical: float | None = None
    step: int | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard, from the values of a label.

    Args:
        name: name in queries.
        title: name for people.
        metric: metric whose series are looked through.
        label: label whose values can be chosen.
        everything: whether all may be chosen at once.
    """

    name: str
    title: str
    metric: str
    label: str
    everything: bool = False


@dataclass(frozen=True)
class Board:
    """A dashboard.

    Args:
        uid: its address, /d/<uid>.
        title: its name.
        description: whose question it answers.
        rows: its panels.
        variables: its choices.
        hours: hours that it shows at first.
    """

    uid: str
    title: str
    description: str
    rows: tuple[Row, ...]
    variables: tuple[Variable, ...] = ()
    hours: int = 6


def ask(*pairs: tuple[str, str]) -> tuple[Query, ...]:
    """Queries from pairs of expression and legend."""
    return tuple(Query(expr, legend) for expr, legend in pairs)
