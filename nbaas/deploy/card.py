"""The model card of a version: what it is, where it comes from, what it was measured to do.

Pure: a manifest in, text out.  Rule: every word of the user (names, notes, metrics) is escaped where
it becomes HTML or Markdown.  Source: Model Cards for Model Reporting, Mitchell et al. 2019.
"""

from __future__ import annotations

import hashlib
import html
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nbaas.deploy.manifest import SOURCE, STRUCTURE, TensorSpec, VersionManifest

Row = tuple[str, ...]

MARKDOWN = re.compile(r"([\\`*_{}\[\]()#!|~<>&$])")
SHORT = 16  # hex digits of a digest that are shown
TABLE_STYLE = "border-collapse:collapse;margin:0 0 .8em 0"
CELL_STYLE = "text-align:left;vertical-align:top;padding:.15em 1.2em .15em 0"


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and its rows; `header` names the columns where there are more than two."""

    title: str
    rows: tuple[Row, ...]
    header: Row = ()


@dataclass(frozen=True, slots=True)
class Card:
    """The model card of one version; a notebook draws it as HTML, a terminal as text."""

    name: str
    version: int
    sections: tuple[Section, ...]

    @property
    def title(self) -> str:
        return f"{self.name}, version {self.version}"

    def __repr__(self) -> str:
        lines = [self.title]
        for section in self.sections:
            lines += ["", section.title]
            rows = [row for row in (section.header, *section.rows) if row]
            widths = _widths(rows)
            lines += ["  " + _padded(row, widths) for row in rows]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        return self.markdown

    @property
    def markdown(self) -> str:
        parts = [f"## {_marked(self.title)}"]
        for section in self.sections:
            header = section.header or ("",) * len(section.rows[0])
            table = [header, tuple("---" for _ in header), *section.rows]
            lines = ["| " + " | ".join(_cell(c, i) for c in row) + " |"
                     for i, row in enumerate(table)]  # fmt: skip
            parts += [f"### {_marked(section.title)}", "\n".join(lines)]
        return "\n\n".join(parts) + "\n"

    def _repr_html_(self) -> str:
        parts = [f"<h3>{html.escape(self.title)}</h3>"]
        for section in self.sections:
            head = _html_row("th", section.header) if section.header else ""
            body = "".join(_html_row("td", row) for row in section.rows)
            parts.append(
                f"<h4>{html.escape(section.title)}</h4>"
                f'<table style="{TABLE_STYLE}"><tbody>{head}{body}</tbody></table>'
            )
        return f"<div>{''.join(parts)}</div>"


def card_of(manifest: VersionManifest, version: int, *, current: bool = True) -> Card:
    """Return the card of a version; what is not known is left out."""
    facts = manifest.facts
    job = _mapping(facts.get("job"))
    made = (
        Section("Model", tuple(_model_rows(manifest, current=current))),
        Section("Signature", tuple(_signature_rows(manifest)), ("", "name", "type", "shape")),
        Section("Training", tuple(_job_rows(job))),
        Section("Metrics", tuple(_metric_rows(job)), ("", "last", "best")),
        Section("Data", tuple(_data_rows(job)), ("name", "kind", "size")),
        Section("Resources", tuple(_resource_rows(_mapping(job.get("resources"))))),
        Section("Engine", tuple(_engine_rows(manifest))),
        Section("Code", tuple(_code_rows(manifest, job))),
    )
    return Card(manifest.name, version, tuple(section for section in made if section.rows))


def code_digest(manifest: VersionManifest) -> str:
    """Return the SHA-256 (hex) of the served code: source files and structure, not the weights."""
    files = {
        name: entry.sha256
        for name, entry in manifest.files.items()
        if name == STRUCTURE or name.startswith(f"{SOURCE}/")
    }
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


# ---------------------------------------------------------------- sections


def _model_rows(manifest: VersionManifest, *, current: bool) -> Iterator[Row]:
    yield "class", manifest.model_class
    yield "parameters", f"{manifest.parameters:,}"
    yield "size", size_text(sum(entry.size for entry in manifest.files.values()))
    yield (
        "deployed",
        f"{_moment(manifest.created)}{'' if current else ' (not the current version)'}",
    )
    if manifest.steps:
        yield "steps", ", ".join(f"{when}: {what}" for when, what in sorted(manifest.steps.items()))
    rows = "rows are independent" if manifest.batchable else "rows depend on each other"
    known = "the same each time" if manifest.deterministic else "not the same each time"
    if manifest.streams:
        rows = "item by item" if manifest.interleaves else "item by item, one stream at a time"
    yield "answers", f"{known}, {rows}"
    if note := manifest.facts.get("note"):
        yield "note", str(note)


def _signature_rows(manifest: VersionManifest) -> Iterator[Row]:
    signature = manifest.signature
    specs: Sequence[tuple[str, tuple[TensorSpec, ...]]] = (
        ("input", signature.inputs),
        ("output", signature.outputs),
    )
    for what, members in specs:
        for spec in members:
            sizes = ["any" if size == -1 else str(size) for size in spec.shape]
            yield what, spec.name, spec.datatype, " x ".join(sizes) or "one number"


def _job_rows(job: Mapping[str, Any]) -> Iterator[Row]:
    if not job:
        return
    yield "job", f"{job.get('name', '')} ({job.get('id', '')}), {job.get('state', '')}"
    yield "where", f"{job.get('where', '')}, {job.get('engine', '')}"
    if job.get("seed") is not None:
        yield "seed", str(job["seed"])
    yield "when", f"{_moment(job.get('started'))}, {_seconds(job.get('seconds'))}"
    if job.get("steps"):
        yield "steps", f"{job['steps']:,} in {job.get('epochs', 0)} epochs"
    if check := job.get("self_check"):
        yield "self-check", str(check)
    if job.get("changed"):
        yield "afterwards", "the parameters were changed in the notebook after this job"


def _metric_rows(job: Mapping[str, Any]) -> Iterator[Row]:
    for name, value in _mapping(job.get("metrics")).items():
        pair = _mapping(value)
        yield str(name), _number(pair.get("last")), _number(pair.get("best"))


def _data_rows(job: Mapping[str, Any]) -> Iterator[Row]:
    for entry in job.get("data") or ():
        item = _mapping(entry)
        yield str(item.get("name")), str(item.get("kind")), size_text(float(item.get("size", 0)))


def _resource_rows(used: Mapping[str, Any]) -> Iterator[Row]:
    if "rank_seconds" in used:
        yield "time of ranks", f"{_seconds(used['rank_seconds'])} ({used.get('ranks')} ranks)"
    if used.get("cpu_seconds"):
        yield "processor time", _seconds(used["cpu_seconds"])
    if used.get("peak_memory"):
        yield "peak memory of a rank", size_text(used["peak_memory"])
    if used.get("peak_gpu_memory"):
        yield "peak GPU memory of a rank", size_text(used["peak_gpu_memory"])


ENGINES = {"torch": "PyTorch", "onnx": "ONNX Runtime"}


def _engine_rows(manifest: VersionManifest) -> Iterator[Row]:
    notes = manifest.engine_notes
    why = ", by measurement" if "single" in notes else ""
    yield "runs by", f"{ENGINES.get(manifest.engine, manifest.engine)}{why}"
    for key, what in (("single", "one row"), ("batch", "a batch of 16")):
        times = _mapping(notes.get(key))
        if times:
            told = [f"{ENGINES.get(name, name)} {_short_time(t)}" for name, t in times.items()]
            yield what, ", ".join(told)
    if "difference" in notes:
        yield "largest difference", _number(notes["difference"])
    if "error" in notes:
        yield "not by ONNX Runtime", str(notes["error"])
    yield "made on", manifest.device


def _code_rows(manifest: VersionManifest, job: Mapping[str, Any]) -> Iterator[Row]:
    yield "served code", f"SHA-256 {code_digest(manifest)[:SHORT]}"
    if cell := job.get("code"):
        yield "training code", f"SHA-256 {str(cell)[:SHORT]}"
    if entry := manifest.files.get("model.safetensors"):
        yield "weights", f"SHA-256 {entry.sha256[:SHORT]}"
    yield from manifest.versions.items()


# ---------------------------------------------------------------- words


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, int | float) else str(value or "")


def _moment(seconds: Any) -> str:
    if not isinstance(seconds, int | float) or not seconds:
        return "at an unknown time"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _seconds(value: Any) -> str:
    if not isinstance(value, int | float):
        return ""
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (float("inf"), 3600, "h")):
        if value < limit:
            return f"{value / size:.3g} {unit}"
    return ""


def _short_time(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    return f"{seconds * 1e6:.3g} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"  # noqa: PLR2004


def size_text(count: float) -> str:
    """Return bytes as '12.3 MB'."""
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f} B"


def _widths(rows: Sequence[Row]) -> list[int]:
    columns = max((len(row) for row in rows), default=0)
    return [max(len(row[i]) for row in rows if i < len(row)) for i in range(columns)]


def _padded(row: Row, widths: Sequence[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
    return "  ".join(padded).rstrip()


def _marked(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _cell(text: str, line: int) -> str:
    return text if line == 1 else _marked(text)  # the line of dashes below the header


def _html_row(tag: str, cells: Row) -> str:
    inner = "".join(f'<{tag} style="{CELL_STYLE}">{html.escape(cell)}</{tag}>' for cell in cells)
    return f"<tr>{inner}</tr>"
