"""What the Jupyter side costs, measured against real servers; prints figures, asserts nothing.

    python tests/benchmarks/server.py [lag] [predict] [panel]

lag      delay of the event loop with 50 jobs that run, 20 open panels and queries over 1 M values
predict  a prediction through the Jupyter route beside handlers with the model in their process: one
         in a Jupyter server, with its login and authorizer, and one of bare Tornado; wrk asks
panel    JupyterLab's panel with 1,000 finished jobs: from the click to the first rows; bundle size
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from socket import create_connection

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "server"), str(ROOT / "tests" / "browser")]

from jupyter_process import (  # noqa: E402 - found on the path of the line above
    BASE,
    TOKEN,
    Server,
    Starter,
    free_port,
    light_python,
    start_server,
    stop_server,
)

from nbaas.config import Settings  # noqa: E402
from nbaas.journal import frame  # noqa: E402

RUNNING, SOCKETS, FINISHED, ROWS = 50, 20, 1000, 100_000  # rows of ten values each
CLIENTS, SECONDS = 8, 5
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
HEADERS = {"Authorization": f"token {TOKEN}"}

TORNADO = """
import asyncio, json, sys, torch
from tornado import web
torch.set_num_threads(1)
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)).eval()
class Infer(web.RequestHandler):
    def post(self):
        if self.request.headers.get("Authorization") != "token %s":
            raise web.HTTPError(403)
        (entry,) = json.loads(self.request.body)["inputs"]
        x = torch.tensor(entry["data"], dtype=torch.float32).reshape(entry["shape"])
        with torch.inference_mode():
            y = model(x)
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps({"model_name": "digits", "outputs": [{"name": "output",
            "datatype": "FP32", "shape": list(y.shape), "data": y.flatten().tolist()}]}))
async def main():
    web.Application([("/infer", Infer)]).listen(int(sys.argv[1]), "127.0.0.1")
    await asyncio.Event().wait()
asyncio.run(main())
"""


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def told(what: str, values: list[float]) -> None:
    p50, p99 = statistics.median(values) * 1000, percentile(values, 0.99) * 1000
    print(f"{what:<46} {len(values):>6} samples  p50 {p50:6.1f} ms  p99 {p99:6.1f} ms", flush=True)


def fill(home: Path, template: Path, count: int, rows: int = 0) -> list[str]:
    """Copy a finished job; the first copy gets `rows` rows of ten values.  Returns the ids."""
    ids = [f"2025{n // 100 % 12 + 1:02}01-{n:06}-{n:08x}" for n in range(count)]
    for number, job_id in enumerate(ids):
        copy = home / "jobs" / job_id
        shutil.copytree(template, copy)
        spec = json.loads((copy / "spec.json").read_text())
        (copy / "spec.json").write_text(json.dumps(spec | {"id": job_id, "name": f"old-{number}"}))
    with (home / "jobs" / ids[0] / "metrics" / "r0.jl").open("ab") as file:
        for step in range(100, 100 + rows):
            values = {f"m{k}": step / (k + 7.0) for k in range(10)}
            file.write(frame({"time": step / 100, "step": step, "epoch": 1, "values": values}))
    return ids


async def measure_lag(server: Server, big: str) -> tuple[list[float], list[float]]:
    """Return the lag of an idle loop here, and of requests that need nothing but the server's."""
    from tornado.httpclient import AsyncHTTPClient, HTTPRequest
    from tornado.websocket import websocket_connect

    AsyncHTTPClient.configure(None, max_clients=100)
    url = f"http://127.0.0.1:{server.port}{BASE}"
    sockets = [
        await websocket_connect(
            HTTPRequest(url.replace("http", "ws") + "nbaas/api/live", headers=HEADERS)
        )
        for _ in range(SOCKETS)
    ]

    async def get(path: str) -> int:
        request = HTTPRequest(url + path, headers=HEADERS, request_timeout=60)
        return len((await AsyncHTTPClient().fetch(request)).body)

    over, lags, queries = asyncio.Event(), list[float](), list[float]()

    async def drain(socket: object) -> None:
        while await socket.read_message() is not None:  # type: ignore[attr-defined]
            pass

    async def probe() -> None:
        while not over.is_set():
            start = time.perf_counter()
            await get("api")  # jupyter-server's own, which does nothing
            lags.append(time.perf_counter() - start)
            await asyncio.sleep(0.01)

    async def query() -> None:
        while not over.is_set():
            start = time.perf_counter()
            await get(f"nbaas/api/jobs/{big}?points=2000")
            queries.append(time.perf_counter() - start)
            await get("nbaas/api/jobs?limit=200")
            await asyncio.sleep(0.05)

    tasks = [asyncio.create_task(work) for work in (probe(), query(), *map(drain, sockets))]
    await asyncio.sleep(SECONDS)
    over.set()
    await asyncio.gather(*tasks[:2])
    for socket in sockets:
        socket.close()
    return lags, queries


def lag(root: Path) -> None:
    process, server = start_server(root / "lag")
    starter = Starter(server.home, light_python(root))
    try:
        done = starter("for n in range(1, 50): step(n, 0.0005)", 1)
        done.wait(30)
        ids = fill(server.home, done.paths.root, 2, ROWS)
        idle, _ = asyncio.run(measure_lag(server, ids[1]))
        told("GET /api, 20 panels, nothing runs", idle)
        # Two ranks fit on two cores: fifty jobs are told not to wait for room.
        for number in range(RUNNING):
            starter(
                "for n in range(1, 100000): step(n, 0.5)", 1, name=f"busy-{number}", queue=False
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            rows = server.get("nbaas/api/jobs").json["jobs"]
            if sum(row["state"] == "RUNNING" for row in rows) >= RUNNING:
                break
            time.sleep(0.5)
        lags, queries = asyncio.run(measure_lag(server, ids[0]))
        running = sum(not row["final"] for row in server.get("nbaas/api/jobs").json["jobs"])
        told(f"GET /api, 20 panels, {running} jobs, 1 M values asked", lags)
        told("GET .../jobs/ID over 1 M values", queries)
    finally:
        starter.clean()
        stop_server(process)


def rate(port: int, path: str, body: str, root: Path, seconds: float = SECONDS) -> float:
    """Return what wrk counts a second with CLIENTS kept-alive connections; all answers are 200."""
    script = root / "request.lua"
    script.write_text(
        f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\n"
        f"wrk.headers['Authorization'] = 'token {TOKEN}'\n"
        "wrk.headers['Content-Type'] = 'application/json'\n"
    )
    command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds}s", "-s", str(script)]
    command.append(f"http://127.0.0.1:{port}{path}")
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "Non-2xx" not in said, said
    return float(said.split("Requests/sec:")[1].split()[0])


def predict(root: Path) -> None:
    import torch
    from jupyter_peer import model

    from nbaas.deploy.client import deploy
    from nbaas.deploy.hosting import stop_host

    process, server = start_server(root / "predict")
    settings = Settings(home=server.home, cache=server.home)
    found = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "benchmarks")])
    beside, peer = start_server(root / "peer", program="jupyter_peer", PYTHONPATH=found)
    port = free_port()
    bare = subprocess.Popen([sys.executable, "-c", TORNADO % TOKEN, str(port)])
    try:
        deploy(settings, model(), name="digits", example=torch.zeros(1, 64))
        entry = {"name": "input", "datatype": "FP32", "shape": [1, 64], "data": [0.5] * 64}
        body = json.dumps({"inputs": [entry]})
        while True:  # until the peer has imported torch
            with contextlib.suppress(OSError), create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        asked = {
            "Jupyter route": (server.port, BASE + "nbaas/v2/models/digits/infer"),
            "handler in the Jupyter server": (peer.port, BASE + "peer/infer"),
            "bare Tornado handler": (port, "/infer"),
        }
        for where in asked.values():
            rate(*where, body, root, 1)
        rounds = [{name: rate(*where, body, root) for name, where in asked.items()} for _ in "123"]
        rates = {name: statistics.median(one[name] for one in rounds) for name in asked}
        ours = rates["Jupyter route"]
        print(f"predictions a second, {CLIENTS} connections, model in the peers' process:")
        for name, per_second in rates.items():
            print(f"  {name:<30} {per_second:6.0f}  ours is {ours / per_second:.2f} times that")
    finally:
        bare.kill()
        bare.wait()
        stop_host(settings)
        stop_server(beside)
        stop_server(process)


def panel(root: Path) -> None:
    from playwright.sync_api import sync_playwright

    scripts = (ROOT / "nbaas" / "labextension" / "static").glob("*.js")
    print(f"bundle: {sum(path.stat().st_size for path in scripts) / 1000:.0f} kB of JavaScript")
    process, server = start_server(root / "panel", program="jupyterlab")
    starter = Starter(server.home, light_python(root))
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    try:
        done = starter("for n in range(1, 200): step(n, 0.0005)", 2)
        done.wait(30)
        fill(server.home, done.paths.root, FINISHED)
        with sync_playwright() as playwright:
            context = playwright.chromium.launch_persistent_context(
                str(root / "profile"), executable_path=chromium, args=FLAGS
            )
            page = context.new_page()
            page.goto(f"http://127.0.0.1:{server.port}{BASE}lab?token={TOKEN}&reset")
            tab = page.get_by_role("tab", name="Training and serving")
            tab.wait_for(timeout=90_000)
            page.wait_for_timeout(3000)
            times = []
            for _ in range(5):
                page.get_by_role("tab", name="File Browser").click()
                page.wait_for_timeout(500)
                page.evaluate(FIRST_ROWS)
                tab.click()
                times.append(page.evaluate("window.firstRows"))
            context.close()
        print("panel, 1,000 jobs, click to first rows painted: "
              + ", ".join(f"{ms:.0f}" for ms in times) + " ms", flush=True)  # fmt: skip
    finally:
        starter.clean()
        stop_server(process)


# From the press of the mouse to the frame after the one that has the first row.
FIRST_ROWS = """() => {
  window.firstRows = new Promise(resolve => {
    document.addEventListener('pointerdown', () => {
      const start = performance.now();
      const look = () => {
        const row = document.querySelector('#nbaas-panel [data-section=recent] li.nbaas-Item');
        const seen = row && row.offsetParent !== null;
        requestAnimationFrame(seen ? () => resolve(performance.now() - start) : look);
      };
      look();
    }, {capture: true, once: true});
  });
}"""


def main() -> None:
    wanted = sys.argv[1:] or ["lag", "predict", "panel"]
    with tempfile.TemporaryDirectory(prefix="nbaas-bench-") as folder:
        for name in wanted:
            {"lag": lag, "predict": predict, "panel": panel}[name](Path(folder))


if __name__ == "__main__":
    main()
