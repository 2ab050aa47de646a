"""Makes the frozen fixture of today's job directory: `python tests/jobs/freeze.py`.

Run once for a release, never to make a test pass: later versions must open what earlier ones wrote.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from nbaas._version import __version__
from nbaas.bundle import build_bundle
from nbaas.capture import capture_cell
from nbaas.config import Settings
from nbaas.jobs.submit import new_spec, submit
from nbaas.journal import JournalReader, frame
from nbaas.placement import HostResources, place
from nbaas.records import State

FIXTURES = Path(__file__).with_name("fixtures")
CELL = """
import nbaas
for epoch in range(3):
    total += 0.5
    seen.append(epoch)
    nbaas.log(total=total)
    print("epoch", epoch, total)
    nbaas.checkpoint()
"""
LEFT_OUT = ("reserve", "hb", "lock", "supervisor.log", "progress", "scratch")


def without_this_machine(root: Path) -> None:
    """Take paths and names of the machine out of a job directory."""
    spec = json.loads((root / "spec.json").read_text())
    (root / "spec.json").write_text(json.dumps({**spec, "python": "python3"}))
    manifest = root / "bundle" / "manifest.json"
    facts = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**facts, "sys_path": [], "blob_directory": "blobs"}, indent=1))
    events = JournalReader(root / "events.jsonl").read()
    told = {"control": "", "host": "", "boot": ""}
    lines = [frame({**e, **{k: v for k, v in told.items() if k in e}}) for e in events]
    (root / "events.jsonl").write_bytes(b"".join(lines))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder) / "home", cache=Path(folder), warm=False)
        spec = new_spec(settings, place(HostResources("here", 2), ranks=1), name="frozen", seed=5)
        spec = replace(spec, engine="serial", env={}, cwd="", python="", origin="frozen.ipynb")
        spec = replace(spec, python=sys.executable)
        contents = capture_cell(
            CELL, {"total": 1.0, "seen": []}, execution_count=7, history=[], exclude=()
        )
        job = submit(settings, spec, lambda path: build_bundle(path, contents, settings.blobs))
        status = job.wait(120)
        assert status.state is State.SUCCEEDED, (status, job.log(0).read())
        target = FIXTURES / f"home-{__version__}"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(
            job.paths.root, target / "jobs" / job.id, ignore=shutil.ignore_patterns(*LEFT_OUT)
        )
        without_this_machine(target / "jobs" / job.id)
        print(target, job.id)


if __name__ == "__main__":
    main()
