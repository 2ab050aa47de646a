"""Do all that only looks at jobs, bundles and endpoints; print what Python was heard to run.

Run in a process of its own: an audit hook cannot be taken off again.  The modules that look are loaded
before it is put on; from then on nothing of the home may be imported, compiled or run, nothing
unpickled, no process started and nobody called.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from pathlib import Path

from nbaas.bundle.manifest import read_manifest as read_bundle
from nbaas.cli import main as command_line
from nbaas.config import Settings
from nbaas.deploy.client import list_endpoints
from nbaas.deploy.registry import read_endpoints, version_folders
from nbaas.errors import NbaasError
from nbaas.jobs.store import find_job, list_jobs
from nbaas.server.endpoints import EndpointIndex
from nbaas.server.jobs import JobIndex
from nbaas.server.logs import read_log
from nbaas.widgets.compare import replayed

ALWAYS = {
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty",
    "socket.connect", "pickle.find_class", "ctypes.dlopen",
}  # fmt: skip
RUNNING = {"exec", "compile", "import", "marshal.loads", "code.__new__"}
heard: list[str] = []


def listen(home: str) -> None:
    """Hear what may never happen, and what may not happen with anything of `home`."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event in ALWAYS or (
            event in RUNNING and any(home in str(one) for one in (*arguments, *sys.path))
        ):
            heard.append(f"{event} {arguments!r}"[:300])

    sys.addaudithook(hook)


def look(settings: Settings) -> dict[str, int]:
    """Return how many jobs, bundles and versions could be looked at."""
    seen = {"jobs": 0, "bundles": 0, "versions": 0}
    index = JobIndex(settings)
    rows, _ = index.rows(1000)
    seen["jobs"] = len(rows)
    for row in rows:
        job = index.find(row.id)
        for rank in range(2):
            with contextlib.suppress(NbaasError):
                index.series(job, 100)
                read_log(job.log(rank).path, 2, start=None)
        with contextlib.suppress(NbaasError):
            replayed(job)  # the curves of `%jobs --compare`
    for folder in sorted(settings.jobs.iterdir()):
        with contextlib.suppress(NbaasError):
            read_bundle(folder / "bundle")
            seen["bundles"] += 1
    list_jobs(settings, 1000)
    with contextlib.suppress(NbaasError):
        find_job(settings, "evil")
    EndpointIndex(settings).rows()
    list_endpoints(settings)
    for record in read_endpoints(settings.endpoints):
        seen["versions"] += len(version_folders(settings.endpoints, record.name))
    for words in (["jobs"], ["jobs", "--json"], ["endpoints"], ["logs", "evil"]):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            command_line(words)
    return seen


def main() -> None:
    home = Path(sys.argv[1])
    settings = Settings(home=home, cache=home / "cache")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        command_line(["jobs"])  # whatever it loads late is loaded now
    heard.clear()
    listen(str(home))
    seen = look(settings)
    print(json.dumps({"seen": seen, "heard": heard}))


if __name__ == "__main__":
    main()
