"""Jobs side by side: their curves in one figure, their facts in one table."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence
from dataclasses import replace

from nbaas.jobs.job import Job
from nbaas.widgets.curves import Curves, group_of
from nbaas.widgets.figure import mime_bundle
from nbaas.widgets.replay import replayed
from nbaas.widgets.run import clock, spoken

Row = tuple[str, ...]


class Comparison:
    """What `job.compare(other)` and `%jobs --compare` return: shows itself as a figure and text."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._runs = [replayed(job) for job in jobs]

    def rows(self) -> list[Row]:
        """Return one row a fact: its name, then its value in each job."""
        now = time.time()
        names = list(dict.fromkeys(name for run in self._runs for name in run.curves.by_name))
        facts: list[Row] = [
            ("", *(run.spec.name for run in self._runs)),
            ("state", *(run.state.value for run in self._runs)),
            ("where", *(run.where for run in self._runs)),
            ("engine", *(run.spec.engine for run in self._runs)),
            ("batch", *(run.spec.batch for run in self._runs)),
            (
                "seed",
                *(str(run.spec.seed) if run.spec.seed is not None else "" for run in self._runs),
            ),
            ("steps", *(f"{run.step:,}" for run in self._runs)),
            ("used", *(run.cost for run in self._runs)),
            ("took", *(clock(run.elapsed(now)) for run in self._runs)),
            ("samples/s", *(f"{run.rate.best or run.rate.now:,.0f}" for run in self._runs)),
        ]
        told = [row for row in facts if any(row[1:]) or not row[0]]
        return told + [row for name in names for row in self._curve_rows(name)]

    def _curve_rows(self, name: str) -> list[Row]:
        curves = [run.curves.by_name.get(name) for run in self._runs]
        last = (spoken(curve.last) if curve else "" for curve in curves)
        if group_of(name) not in {"loss", "score"}:
            return [(name, *last)]
        best = (spoken(curve.best) if curve else "" for curve in curves)
        return [(name, *last), (f"{name}, best", *best)]

    def curves(self) -> Curves:
        """Return the curves of all jobs, each with its job's name behind its own."""
        overlaid = Curves()
        names = [run.spec.name for run in self._runs]
        for index, run in enumerate(self._runs):
            # Two runs of one name are told apart by their place.
            job = names[index] if names.count(names[index]) == 1 else f"{names[index]}, {index + 1}"
            for curve in run.curves:
                name = f"{curve.name} ({job})"
                overlaid.by_name[name] = replace(curve, name=name, of=curve.name, job=index)
        return overlaid

    def __repr__(self) -> str:
        rows = self.rows()
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )
        return "\n".join(lines)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        title = " and ".join(run.spec.name for run in self._runs)
        data, metadata = mime_bundle(title, title, self.curves())
        if "image/png" in data:
            display(data, metadata=metadata, raw=True)
        display({"text/plain": repr(self), "text/html": self._repr_html_()}, raw=True)

    def _repr_html_(self) -> str:
        """Return the facts as a table; what the jobs do not share is bold."""
        lines = []
        for index, (name, *values) in enumerate(self.rows()):
            tag = "td" if index else "th"
            told = [f"<b>{html.escape(value)}</b>" if index and len(set(values)) > 1
                    else html.escape(value) for value in values]  # fmt: skip
            cells = "".join(f"<{tag} style='text-align:left'>{cell}</{tag}>" for cell in told)
            lines.append(f"<tr><th style='text-align:left'>{html.escape(name)}</th>{cells}</tr>")
        return f"<table>{''.join(lines)}</table>"
