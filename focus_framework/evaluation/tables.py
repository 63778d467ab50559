"""Evaluations as tables: one protocol a table, in plain text, CSV and LaTeX.

The figures that others print were made by the protocol ``release``. They stand in a table of their own unless one's own numbers were
made by it too: numbers of two protocols never share a column.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..plugin.interfaces import LOWER_IS_BETTER, METRICS

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from .scoring import Evaluation

LABELS = {
    "s_measure": "S", "e_measure_mean": "E mean", "e_measure_max": "E max", "e_measure_adaptive": "E adp",
    "weighted_f": "wF", "f_beta_mean": "F mean", "f_beta_max": "F max", "f_beta_adaptive": "F adp",
    "mae": "MAE", "ber": "BER %", "f1": "F1", "auc": "AUC", "iou": "IoU",
}  # fmt: skip
"""What the field calls the metrics."""
PUBLISHED_PROTOCOL = "release"
OWN = "this run"


@dataclass(frozen=True)
class Row:
    """One data set by one source; `count` is None where it is not known."""

    data: str
    source: str
    count: int | None
    values: Mapping[str, float]


@dataclass(frozen=True)
class Table:
    """Numbers of one protocol; a row has NaN, or nothing, where there is no number."""

    protocol: str
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    """What was done to the maps before they were measured."""

    @property
    def header(self) -> list[str]:
        return ["data", "source", "images", *(LABELS[name] for name in self.metrics)]

    def __str__(self) -> str:
        """The table for people, with its protocol above it."""
        from rich.console import Console

        text = io.StringIO()
        console = Console(file=text, width=160)
        console.print(title(self), highlight=False)
        console.print(rich_table(self))
        return text.getvalue()

    def cells(self) -> list[list[str]]:
        """Every row as text, in the order of the header."""
        return [
            [row.data, row.source, "" if row.count is None else str(row.count), *(number(name, row.values) for name in self.metrics)]
            for row in self.rows
        ]


def number(metric: str, values: Mapping[str, float]) -> str:
    """A value as text: percent with two decimals, all else with four; a dash where it is undefined or not known."""
    value = values.get(metric, math.nan)
    return "-" if math.isnan(value) else f"{value:.{2 if metric == 'ber' else 4}f}"


def tables(evaluations: Sequence[Evaluation], metrics: Sequence[str] = METRICS) -> list[Table]:
    """The evaluations as one table, and the published figures beside it where they are of another protocol.

    Raises `ConfigError` where the evaluations were not made by one protocol.
    """
    protocols = {evaluation.protocol for evaluation in evaluations}
    if len(protocols) != 1:
        raise ConfigError(f"numbers of the protocols {' and '.join(sorted(protocols))} cannot share a table; evaluate both by one")
    protocol = protocols.pop()
    own = [Row(e.data, e.source, e.count, e.metrics) for e in evaluations]
    others = [Row(e.data, source, None, figures) for e in _first_of_each(evaluations) for source, figures in e.published.items()]
    notes = tuple(note for e in evaluations for note in e.stamp)
    names = tuple(metrics)
    if protocol == PUBLISHED_PROTOCOL:
        rows = sorted([*own, *others], key=lambda row: [e.data for e in evaluations].index(row.data))
        return [Table(protocol, names, tuple(rows), notes)]
    made = [Table(protocol, names, tuple(own), notes)]
    if others:
        known = tuple(name for name in METRICS if any(name in row.values for row in others))
        made.append(Table(PUBLISHED_PROTOCOL, known, tuple(others)))
    return made


def _first_of_each(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """One evaluation a data set: several methods share the figures of others."""
    return list({e.data: e for e in reversed(evaluations)}.values())[::-1]


def title(table: Table) -> str:
    """What has to be said above a table."""
    from .metrics import PROTOCOLS

    rules = PROTOCOLS[table.protocol]
    heading = "published figures, protocol" if all(row.count is None for row in table.rows) else "protocol"
    return "; ".join((f"{heading} {rules.name}: {rules.map}", rules.normalisation, rules.note, *table.notes))


def rich_table(table: Table) -> RichTable:
    """The table for a terminal, without its `title`; the arrow says which way is better."""
    from rich.table import Table as RichTable

    drawn = RichTable()
    for index, label in enumerate(table.header):
        metric = table.metrics[index - 3] if index > 2 else None
        arrow = "" if metric is None else " ↓" if metric in LOWER_IS_BETTER else " ↑"
        drawn.add_column(label + arrow, justify="left" if index < 2 else "right", no_wrap=index > 1, overflow="fold")
    for cells in table.cells():
        drawn.add_row(*cells)
    return drawn


def as_csv(made: Sequence[Table], more: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None) -> str:
    """All tables as one CSV, a column for the protocol of each row, full precision, metrics by their names.

    `more` has further columns by data set and source.
    """
    more = more or {}
    further = list(dict.fromkeys(column for sources in more.values() for columns in sources.values() for column in columns))
    names = [name for name in METRICS if any(name in table.metrics for table in made)]
    noted = any(table.notes for table in made)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["protocol", "data", "source", "images", *names, *further, *(["notes"] if noted else [])])
    for table in made:
        for row in table.rows:
            values = [row.values.get(name, math.nan) for name in names]
            values += [more.get(row.data, {}).get(row.source, {}).get(column, math.nan) for column in further]
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            count = "" if row.count is None else row.count
            writer.writerow([table.protocol, row.data, row.source, count, *cells, *(["; ".join(table.notes)] if noted else [])])
    return text.getvalue()


def as_latex(made: Sequence[Table]) -> str:
    """Each table as a ``tabular`` (package booktabs), its protocol in a comment above."""
    return "\n".join(_latex(table) for table in made)


def _latex(table: Table) -> str:
    arrows = [rf" $\{'down' if name in LOWER_IS_BETTER else 'up'}arrow$" for name in table.metrics]
    header = [latex_escaped(label) + arrow for label, arrow in zip(table.header, ["", "", "", *arrows], strict=True)]
    lines = [
        f"% {title(table)}",
        rf"\begin{{tabular}}{{llr{'r' * len(table.metrics)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
        r"\midrule",
        *(" & ".join(latex_escaped(cell) for cell in cells) + r" \\" for cells in table.cells()),
        r"\bottomrule",
        r"\end{tabular}",
        "",
    ]
    return "\n".join(lines)


def latex_escaped(text: str) -> str:
    """Text with the signs that LaTeX reads otherwise written out."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(special.get(sign, f"\\{sign}" if sign in "&%$#_{}" else sign) for sign in text)
