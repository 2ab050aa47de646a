"""What is told of a run that is over: as text, as HTML that needs no script, and as data to draw anew.

Rule: every word that comes from a user is escaped.
"""

from __future__ import annotations

import html
import math
from itertools import islice
from typing import Any

from nbaas.widgets.curves import MOST_CURVES, Curve
from nbaas.widgets.run import RunView

MIME = "application/vnd.nbaas.run+json"  # drawn by the JupyterLab extension
POINTS_KEPT = 3_000  # of all curves together: some 50 kB
MOST_OF_ONE = 500


def summary_text(run: RunView, now: float) -> str:
    """Return the run in a few lines: what became of it, what the ranks gained, what it used."""
    lines = [run.line(now), run.scaling(), run.cost, *run.facts]
    return "\n".join(line for line in lines if line)


def summary_html(run: RunView, now: float) -> str:
    """Return the same as HTML; what was sharded, split and gathered is folded."""
    first, *more = (html.escape(line) for line in (run.line(now), run.scaling(), run.cost) if line)
    small = "".join(f"<br><small>{line}</small>" for line in more)
    items = "".join(f"<li>{html.escape(line)}</li>" for line in run.facts)
    title = "what was sharded, split, gathered"
    facts = f"<details><summary>{title}</summary><ul>{items}</ul></details>" if items else ""
    return f"<div>{first}{small}{facts}</div>"


def stored_run(run: RunView, now: float) -> dict[str, Any]:
    """Return the run as JSON that panel.js draws without a kernel, at most about 100 kB."""
    curves = list(islice(run.curves, MOST_CURVES))
    limit = min(MOST_OF_ONE, POINTS_KEPT // max(len(curves), 1))
    # Pictures stay in the job's folder: there is nobody to ask for them.
    view = {**run.view(now), "pictures": []}
    return {"view": view, "curves": [_stored(curve, limit) for curve in curves]}


def _stored(curve: Curve, limit: int) -> dict[str, Any]:
    steps, values = curve.points(limit=limit)
    return {
        "name": curve.name,
        "group": curve.group,
        "x": [int(step) if step == int(step) else float(step) for step in steps],
        "y": [_json_number(float(value)) for value in values],
    }


def _json_number(value: float) -> float | str:
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)
