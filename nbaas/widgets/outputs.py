"""The two outputs that a run leaves in the saved notebook: its figure and its summary.

Rule: neither holds a widget, so both open without a kernel; the metadata of both names the job, so
that a page which was loaded anew while the job ran can put them where they belong.
`python -m nbaas.widgets.outputs FOLDER` prints them for the job of a folder.
"""

from __future__ import annotations

import base64
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.jobs.job import Job, open_job
from nbaas.jobs.pictures import Logged, png_of
from nbaas.records import JobPaths, from_json, to_json
from nbaas.widgets.drawing import outputs_json
from nbaas.widgets.figure import mime_bundle
from nbaas.widgets.replay import replayed
from nbaas.widgets.run import RunView
from nbaas.widgets.summary import MIME, stored_run, summary_html, summary_text

MOST_KEPT = 8  # pictures and histograms that a saved notebook keeps, the last of each name
PICTURE_BYTES = 60_000  # of all of them together


@dataclass(frozen=True, slots=True)
class Output:
    """Data and metadata of one output, as a notebook file holds them."""

    data: dict[str, Any]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Outputs:
    figure: Output
    summary: Output


def mark(job_id: str, part: str, *, final: bool = False) -> dict[str, Any]:
    """Return the metadata by which a front end knows the output of a job."""
    return {"nbaas": {"job": job_id, "part": part, "final": final}}


def final_outputs(run: RunView, paths: JobPaths, now: float) -> Outputs:
    """Return what stays of a run: a figure with the data behind it, a summary in words."""
    data, metadata = mime_bundle(run.title(now), run.line(now), run.curves)
    if isinstance(data.get("image/png"), bytes):
        data["image/png"] = base64.b64encode(data["image/png"]).decode()
        data[MIME] = {**stored_run(run, now), "pictures": _kept(run, paths)}
    summary = {"text/plain": summary_text(run, now), "text/html": summary_html(run, now)}
    return Outputs(
        Output(data, {**metadata, **mark(run.spec.id, "figure", final=True)}),
        Output(summary, mark(run.spec.id, "summary", final=True)),
    )


def _kept(run: RunView, paths: JobPaths) -> list[dict[str, Any]]:
    """Return the last picture or histogram of each name as far as they fit, as the panel takes them."""
    kept, left = [], PICTURE_BYTES
    for logged in list(run.pictures.values())[:MOST_KEPT]:
        last = logged[-1]
        image = base64.b64encode(png_of(paths, last)).decode() if last.file else ""
        if len(image) > left or (last.file and not image):
            continue
        left -= len(image)
        kept.append({**picture_message(logged, len(logged) - 1), "index": 0, "png": image})
    return kept


def picture_message(logged: list[Logged], at: int) -> dict[str, Any]:
    """Return what the panel is told of one of a name's pictures; an image itself comes beside it."""
    shown, first = logged[at], logged[0]
    message = {"kind": "picture", "name": shown.name, "index": at, "step": shown.step}
    if shown.file:
        return message
    before = {"counts": list(first.counts), "low": first.low, "high": first.high}
    bars = {"counts": list(shown.counts), "low": shown.low, "high": shown.high}
    return {**message, **bars, "strange": shown.strange, "first": before}


def drawn_apart(paths: JobPaths) -> Outputs:
    """Return the outputs of an ended job, drawn by another process.

    Raises: JobError: it could not.
    """
    parts = json.loads(outputs_json(paths.root))
    return Outputs(*(from_json(Output, parts[part]) for part in ("figure", "summary")))


def outputs_of(job: Job) -> Outputs:
    """Return the outputs of a job from its files alone."""
    return final_outputs(replayed(job), job.paths, time.time())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(to_json(outputs_of(open_job(Path(sys.argv[1]))))))
