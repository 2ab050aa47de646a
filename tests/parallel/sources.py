"""Cases: ordinary single-device sources, read from a script or a notebook.

A script says about itself in lines that start with `#:`

    #: ignore start elapsed      names whose value may differ (times)
    #: rtol 1e-4                 where 1e-5 means nothing, with the reason after it
    #: needs keras transformers.trainer   packages without which it is skipped; imported ahead
    #: env KERAS_BACKEND=torch   set before anything is imported
    #: timed runtime per_second  a printed line that holds one of the words is not compared
    #: slow                      only in the full matrix
    #: statistical 0.05          in-model randomness: floats within this, counts of steps equal

and may be divided by a line `# %% train` (what stands above runs plainly, as earlier cells do) and a
line `# %% after`.  Without them all of it is the training cell.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass, field
from pathlib import Path

DIRECTIVE = "#:"
PHASES = ("setup", "train", "after")


@dataclass(frozen=True)
class Case:
    """One source in up to three phases, each with the lines above it blank, so that lines hold."""

    name: str
    group: str
    path: Path
    phases: dict[str, str]
    pattern: str  # its first docstring line or comment: what it shows
    ignore: frozenset[str] = frozenset()
    rtol: float = 1e-5
    needs: tuple[str, ...] = ()
    timed: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    slow: bool = False
    statistical: bool = False

    @property
    def missing(self) -> list[str]:
        """The packages that are not installed; `needs` may name modules in them, to be preloaded."""
        packages = {name.partition(".")[0] for name in self.needs}
        return sorted(name for name in packages if importlib.util.find_spec(name) is None)


def read_script(path: Path) -> Case:
    lines = path.read_text().splitlines()
    return Case(
        name=path.stem,
        group=path.parent.name,
        path=path,
        phases=split_phases(lines),
        pattern=lines[0].strip('"# '),
        **directives(lines),
    )


def read_notebook(path: Path) -> Case:
    """Return the code cells of a notebook; the ones tagged `train` are the training cell."""
    cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    tagged = [i for i, c in enumerate(cells) if "train" in c["metadata"].get("tags", [])]
    sources = ["".join(c["source"]) for c in cells]
    train = tagged[0]
    phases = {
        "setup": "\n\n".join(sources[:train]),
        "train": sources[train],
        "after": "\n\n".join(sources[train + 1 :]),
    }
    lines = [line for source in sources for line in source.splitlines()]
    return Case(
        name=path.stem,
        group="corpus",
        path=path,
        phases={phase: source for phase, source in phases.items() if source.strip()},
        pattern=notebook_title(path),
        **directives(lines),
    )


def notebook_title(path: Path) -> str:
    first = json.loads(path.read_text())["cells"][0]
    return "".join(first["source"]).splitlines()[0].strip("# ")


def split_phases(lines: list[str]) -> dict[str, str]:
    marks = {
        phase: at
        for phase in ("train", "after")
        for at, line in enumerate(lines)
        if line == f"# %% {phase}"
    }
    if "train" not in marks:
        return {"train": "\n".join(lines) + "\n"}
    starts = {"setup": 0, **marks}
    ends = {"setup": marks["train"], "train": marks.get("after", len(lines)), "after": len(lines)}
    return {
        phase: "\n" * starts[phase] + "\n".join(lines[starts[phase] : ends[phase]]) + "\n"
        for phase in PHASES
        if phase in starts
    }


def directives(lines: list[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    for line in lines:
        if not line.startswith(DIRECTIVE):
            continue
        word, *rest = line.removeprefix(DIRECTIVE).split()
        if word == "ignore":
            found["ignore"] = frozenset(rest)
        elif word in ("needs", "timed"):
            found[word] = tuple(rest)
        elif word == "rtol":
            found["rtol"] = float(rest[0])
        elif word == "env":
            found["env"] = dict(pair.split("=", 1) for pair in rest)
        elif word == "slow":
            found["slow"] = True
        elif word == "statistical":
            found["statistical"], found["rtol"] = True, float(rest[0])
        else:
            raise ValueError(f"{line!r}: no directive {word!r}")
    return found


def all_scripts(root: Path) -> list[Case]:
    """Return the cases under `root`, sorted by group and name; `_shared` folders are data."""
    return [read_script(path) for path in sorted(root.glob("*/*.py"))]
