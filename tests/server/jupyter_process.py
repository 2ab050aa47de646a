"""A real Jupyter server in a process of its own, and jobs of light ranks for it to show.

For the tests of the server and of the browser, whose conftest puts this folder on the path.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import nbaas
from nbaas.config import Settings
from nbaas.jobs.job import Job
from nbaas.jobs.submit import new_spec, submit
from nbaas.launchers.processes import kill_tagged
from nbaas.placement import HostResources, place

ROOT = Path(nbaas.__file__).parents[1]
TOKEN = "a-token-for-tests"
BASE = "/user/ann/"
CONFIG = ROOT / "labextension" / "jupyter-config" / "nbaas.json"
LIGHT_RANK = ROOT / "tests" / "jobs" / "light_rank.py"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class Server:
    """Requests as a client makes them; `cookies` are those of a browser that logged in."""

    port: int
    home: Path
    cookies: dict[str, str] = field(default_factory=dict)

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        token: str | None = TOKEN,
        **headers: str,
    ) -> Answer:
        """Send one request; header names are given with '_' for '-', the path below the base URL."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            sent.setdefault("Authorization", f"token {token}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, BASE + path.lstrip("/"), body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: Any) -> Answer:
        return self.request("GET", path, **headers)

    def post(self, path: str, body: bytes = b"{}", **headers: Any) -> Answer:
        return self.request("POST", path, body, **headers)

    def log_in(self) -> dict[str, str]:
        """Return a browser's cookies after a login: who it is, and the XSRF token."""
        if not self.cookies:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            for path in (f"{BASE}login", f"{BASE}api/status?token={TOKEN}"):
                connection.request("GET", path)
                answer = connection.getresponse()
                answer.read()
                for line in answer.headers.get_all("Set-Cookie") or []:
                    name, _, value = line.partition(";")[0].partition("=")
                    self.cookies[name] = value
            connection.close()
        return self.cookies

    def cookie_secret(self) -> bytes:
        """Return what the server signs its cookies with: who has it may come in."""
        (path,) = self.home.parent.rglob("jupyter_cookie_secret")
        return hmac.new(path.read_bytes(), digestmod=hashlib.sha256).digest()

    def cookie_header(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self.log_in().items())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_server(
    root: Path, *options: str, program: str = "jupyter_server", **environ: str
) -> tuple[subprocess.Popen, Server]:
    """Start a server; our extension is enabled by the very file that installing puts down."""
    enabled = root / "config" / "jupyter_server_config.d"
    enabled.mkdir(parents=True)
    (enabled / CONFIG.name).write_text(CONFIG.read_text())
    panel = root / "data" / "labextensions" / "nbaas"
    panel.parent.mkdir(parents=True)
    panel.symlink_to(ROOT / "nbaas" / "labextension")
    port, home = free_port(), root / "home"
    home.mkdir(mode=0o700)
    variables = {
        "NBAAS_HOME": str(home),
        "NBAAS_ENGINE": "ddp",
        "NBAAS_STOP_GRACE": "2",
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "JUPYTER_DATA_DIR": str(root / "data"),
        # First of all, so that a copy that was once installed does not stand before the tree.
        "JUPYTER_PATH": str(root / "data"),
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }
    command = [sys.executable, "-m", program, "--allow-root", "--no-browser"]
    command += [f"--port={port}", "--ServerApp.port_retries=0", f"--ServerApp.base_url={BASE}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={home}", *options]
    log = (root / "server.log").open("w")
    process = subprocess.Popen(
        command, env=os.environ | variables | environ, cwd=root, stdout=log, stderr=log
    )
    log.close()
    server = Server(port, home)
    deadline = time.monotonic() + 60
    while True:
        assert process.poll() is None, (root / "server.log").read_text()[-3000:]
        try:
            if server.get("api/status").status == 200:
                return process, server
        except OSError:
            pass
        assert time.monotonic() < deadline, (root / "server.log").read_text()[-3000:]
        time.sleep(0.05)


def stop_server(process: subprocess.Popen) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def light_python(folder: Path) -> str:
    """Return an 'interpreter' whose every start is a rank without torch: a job in 0.2 s."""
    script = folder / "light-python"
    script.write_text(
        f"#!{sys.executable} -S\n"
        f"import sys; sys.path.append({str(ROOT)!r})\n"
        f"exec(compile(open({str(LIGHT_RANK)!r}).read(), {str(LIGHT_RANK)!r}, 'exec'))\n"
    )
    script.chmod(0o755)
    return str(script)


@dataclass(slots=True)
class Starter:
    """Starts jobs of light ranks that a server sees."""

    home: Path
    python: str
    jobs: list[Job] = field(default_factory=list)

    def __call__(self, cell: str, ranks: int = 2, *, name: str = "", **fields: object) -> Job:
        def write(bundle: Path) -> None:
            bundle.mkdir()
            (bundle / "cell.py").write_text(cell)

        settings = Settings(
            home=self.home, cache=self.home, engine="ddp", stop_grace=2.0, warm=False
        )
        spec = new_spec(settings, place(HostResources("here", 2), ranks=ranks), name=name)
        self.jobs.append(
            submit(settings, replace(spec, **{"python": self.python, **fields}), write)
        )
        return self.jobs[-1]

    def clean(self) -> None:
        for job in self.jobs:
            job.kill()
            job.wait(10)
            kill_tagged(job.id)
