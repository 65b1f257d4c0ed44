"""How is PostgreSQL?"""

from __future__ import annotations

from stack.dashboards.model import Board, Panel, Row, Variable, ask

_OF = 'node=~"$node"'
_DB = f'datname="overlord", {_OF}'


def _rate(metric: str) -> str:
    return f"sum by (node) (rate({metric}{{{_DB}}}[$__rate_interval]))"


POSTGRES = Board(
    uid="overlord-postgres",
    title="PostgreSQL",
    description="Connections, work, locks and size of the database.",
    variables=(Variable("node", "Node", "pg_up", "node", everything=True),),
    rows=(
        Row(
            "Now",
            (
                Panel(
                    "Answers",
                    ask((f"min(pg_up{{{_OF}}})", "")),
                    "stat",
                    "bool_yes_no",
                    width=6,
                    height=4,
                    warning=1,
                    critical=0.5,
                ),
                Panel(
                    "Connections used",
                    ask((f"max(postgres:connections_used:ratio{{{_OF}}})", "")),
                    "stat",
                    "percentunit",
                    width=6,
                    height=4,
                    warning=0.6,
                    critical=0.8,
                ),
                Panel(
                    "Oldest query",
                    ask((f"max(postgres:oldest_active:seconds{{{_OF}}})", "")),
                    "stat",
                    "s",
                    width=6,
                    height=4,
                    warning=1,
                    critical=10,
                    quiet=True,
                ),
                Panel(
                    "Size",
                    ask((f"max(pg_database_size_bytes{{{_DB}}})", "")),
                    "stat",
                    "bytes",
                    width=6,
                    height=4,
                ),
            ),
        ),
        Row(
            "Work",
            (
                Panel(
                    "Transactions",
                    ask(
                        (_rate("pg_stat_database_xact_commit"), "{{node}} committed"),
                        (_rate("pg_stat_database_xact_rollback"), "{{node}} rolled back"),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Rows",
                    ask(
                        (_rate("pg_stat_database_tup_inserted"), "{{node}} inserted"),
                        (_rate("pg_stat_database_tup_updated"), "{{node}} updated"),
                        (_rate("pg_stat_database_tup_fetched"), "{{node}} fetched"),
                    ),
                    unit="ops",
                ),
                Panel(
                    "Read from memory",
                    ask(
                        (
                            f"{_rate('pg_stat_database_blks_hit')} / "
                            f"(({_rate('pg_stat_database_blks_hit')} + "
                            f"{_rate('pg_stat_database_blks_read')}) > 0)",
                            "{{node}}",
                        )
                    ),
                    unit="percentunit",
                    description="Part of the blocks that were in the buffer cache.",
                ),
                Panel(
                    "Connections",
                    ask(
                        (
                            f"sum by (node, state) (pg_stat_activity_count{{{_OF}}})",
                            "{{node}} {{state}}",
                        )
                    ),
                    stacked=True,
                ),
            ),
        ),
        Row(
            "Trouble",
            (
                Panel(
                    "Locks",
                    ask((f"sum by (node, mode) (pg_locks_count{{{_DB}}})", "{{node}} {{mode}}")),
                ),
                Panel(
                    "Deadlocks in 15 minutes",
                    ask((f"increase(pg_stat_database_deadlocks{{{_DB}}}[15m])", "{{node}}")),
                    warning=3,
                ),
                Panel(
                    "Oldest query that runs",
                    ask((f"postgres:oldest_active:seconds{{{_OF}}}", "{{node}}")),
                    unit="s",
                    warning=1,
                    quiet=True,
                ),
                Panel(
                    "Requests of the API that wait for a connection",
                    ask((f"overlord_api_database_waiting{{{_OF}}}", "{{node}}")),
                    warning=10,
                ),
            ),
        ),
    ),
)
