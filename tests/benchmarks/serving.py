"""nbaas beside the servers people would pick: same models, same machine, one run; wrk as the load.

`python tests/benchmarks/serving.py [--rounds 2] [--seconds 2] [--servers nbaas,starlette]
[--models mlp,cnn] [--figure serving.png]` prints
requests/s, p50 and p99 at 1, 8 and 32 connections, memory and start-up for every server that is
installed, and, last, `best-peer ratio: R`: throughput of nbaas over the best peer, small MLP, JSON, 32
connections.  Ratios of one run on a quiet machine mean something, absolute figures little.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import linecache
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))
from peers import MODULES, PEERS, ROUTES

ROOT = Path(__file__).resolve().parents[2]
CONNECTIONS = (1, 8, 32)
WORKERS = {"mlp": 1, "cnn": 2}  # model processes of every server
MODELS = {
    "mlp": """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    def forward(self, x):
        return self.net(x)
EXAMPLE = torch.randn(4, 64)
""",
    "cnn": """
import torch
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 112, 3, padding=1), nn.BatchNorm2d(112), nn.ReLU(),
            nn.Conv2d(112, 224, 3, padding=1, stride=2), nn.BatchNorm2d(224), nn.ReLU(),
            nn.Conv2d(224, 448, 3, padding=1, stride=2), nn.BatchNorm2d(448), nn.ReLU(),
            nn.Conv2d(448, 448, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(448, 10))
    def forward(self, x):
        return self.net(x)
EXAMPLE = torch.randn(4, 3, 32, 32)
""",
}


@dataclass(frozen=True)
class Measured:
    rate: float  # requests a second
    p50: float  # milliseconds
    p99: float
    errors: int
    cpu: float = 0.0  # microseconds of the server's processes for a request


@dataclass(frozen=True)
class Server:
    url: str
    headers: dict[str, str]
    pids: tuple[int, ...]
    start: float  # seconds to the first answer


@dataclass(frozen=True)
class Row:
    """One server: what wrk saw by number of connections, its memory and its start."""

    by_connections: dict[int, Measured]
    memory: float  # MB, shared pages divided
    start: float  # seconds

    def __getitem__(self, connections: int) -> Measured:
        return self.by_connections[connections]


def better(before: Row | None, now: Row) -> Row:
    """Return the round of higher throughput at each number of connections."""
    if before is None:
        return now
    best = {c: max(before[c], now[c], key=lambda m: m.rate) for c in CONNECTIONS}
    return Row(best, min(before.memory, now.memory), min(before.start, now.start))


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    wanted = arguments.servers.split(",")
    table: dict[str, dict[str, Row]] = {}
    here = [name for name in wanted if is_here(name)]
    for model in arguments.models.split(","):
        # Round after round, so that what else the machine does hits each server alike.
        for _ in range(arguments.rounds):
            for name in here:
                seen = measured(name, model, arguments.seconds)
                table.setdefault(model, {})[name] = better(table.get(model, {}).get(name), seen)
    for model, rows in table.items():
        show_table(model, rows)
        show_ratios(model, rows)
    if arguments.figure:
        draw(table, arguments.figure)
    ratio = best_peer_ratio(table.get("mlp", {}))
    print(f"best-peer ratio: {ratio:.2f}" if ratio else "best-peer ratio: no peer was measured")
    return 0


def is_here(name: str) -> bool:
    """Whether a server can be started; says so where it cannot."""
    found = name.startswith("nbaas") or importlib.util.find_spec(MODULES[name]) is not None
    if not found:
        print(f"{name}: not installed, left out")
    return found


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    made.add_argument("--seconds", type=float, default=2.0, help="of each wrk run")
    made.add_argument("--rounds", type=int, default=2, help="of which the better counts")
    made.add_argument("--figure", type=Path, help="where bars of the throughput are drawn")
    made.add_argument("--servers", default="nbaas,starlette,fastapi,tornado,mosec,litserve")
    made.add_argument("--models", default="mlp,cnn")
    return made


def measured(name: str, model: str, seconds: float) -> Row:
    """Return what wrk saw of one server by number of connections; prints it as it goes."""
    with tempfile.TemporaryDirectory(prefix="nbaas-bench-") as folder:
        root = Path(folder)
        (root / "model.py").write_text(MODELS[model])
        example = example_of(model)
        with server(name, model, root) as found:
            check_answer(found, example)
            memory = sum(pss(pid) for pid in found.pids) / (1 << 20)
            wrk(found, example, root, 8, 1.0)  # warm
            rows = {c: wrk(found, example, root, c, seconds) for c in CONNECTIONS}
    cells = "  ".join(
        f"c={c}: {m.rate:8.0f}/s p50 {m.p50:7.2f} p99 {m.p99:7.2f} ms {m.cpu:5.0f} us CPU"
        for c, m in rows.items()
    )
    failed = sum(m.errors for m in rows.values())
    print(f"{model:4} {name:10} {cells}  {memory:5.0f} MB  start {found.start:4.1f} s"
          + (f"  {failed} errors" if failed else ""), flush=True)  # fmt: skip
    return Row(rows, memory, found.start)


def example_of(model: str) -> str:
    """Return the JSON body of a request of one row."""
    import numpy as np

    shape = {"mlp": (1, 64), "cnn": (1, 3, 32, 32)}[model]
    rows = np.random.default_rng(0).normal(size=shape).round(4)
    return json.dumps({"inputs": rows.tolist()})


@contextlib.contextmanager
def server(name: str, model: str, root: Path) -> Iterator[Server]:
    if name.startswith("nbaas"):
        with nbaas_server(name, model, root) as found:
            yield found
        return
    port = free_port()
    program = root / "peer.py"
    program.write_text(PEERS[name])
    started = time.monotonic()
    log = (root / "log").open("wb")
    process = subprocess.Popen(
        [sys.executable, str(program), str(port), str(root / "model.py"), str(WORKERS[model])],
        cwd=root, stdout=log, stderr=log, start_new_session=True,
        env=os.environ | {"OMP_NUM_THREADS": "1", "BENCH_PORT": str(port),
                          "BENCH_MODEL": str(root / "model.py"),
                          "BENCH_WORKERS": str(WORKERS[model])},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}{ROUTES.get(name, '/predict')}"
    try:
        wait_for(url, example_of(model), process, root / "log")
        start = time.monotonic() - started
        family = [
            process.pid,
            *(p.pid for p in psutil.Process(process.pid).children(recursive=True)),
        ]
        yield Server(url, {}, tuple(family), start)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        log.close()


@contextlib.contextmanager
def nbaas_server(name: str, model: str, root: Path) -> Iterator[Server]:
    """Deploy the model as from a notebook, as %deploy does; `nbaas-onnx`, `nbaas-auto`: by engine."""
    import torch

    from nbaas.config import Settings
    from nbaas.deploy import client
    from nbaas.deploy.hosting import read_state

    source = MODELS[model]
    namespace: dict[str, object] = {"__name__": "__main__"}
    cell = f"<bench {model}>"
    linecache.cache[cell] = (len(source), None, source.splitlines(keepends=True), cell)
    torch.manual_seed(0)
    exec(compile(source, cell, "exec"), namespace)
    settings = Settings(home=root / "home", cache=root / "cache")
    options = client.Options(
        engine=name.partition("-")[2] or "torch", threads=1, replicas=WORKERS[model]
    )
    started = time.monotonic()
    try:
        made = client.deploy(
            settings,
            namespace["Net"](),
            name="bench",
            example=namespace["EXAMPLE"],
            options=options,
        )
        start = time.monotonic() - started
        host = psutil.Process(read_state(settings)["pid"])
        family = [host.pid, *(child.pid for child in host.children(recursive=True))]
        headers = {"Authorization": f"Bearer {client.token(settings, 'bench')}"}
        yield Server(made.predict_url, headers, tuple(family), start)
    finally:
        client.stop_host(settings)


def wait_for(url: str, body: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 90
    while True:
        with contextlib.suppress(OSError):
            ask(url, body, {})
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{url} did not start: {log.read_text()[-1000:]}")
        time.sleep(0.02)


def ask(url: str, body: str, headers: dict[str, str]) -> dict[str, object]:
    request = urllib.request.Request(
        url, body.encode(), {"Content-Type": "application/json", **headers}
    )
    with urllib.request.urlopen(request, timeout=10) as answered:
        return json.loads(answered.read())


def check_answer(found: Server, body: str) -> None:
    outputs = ask(found.url, body, found.headers)["outputs"]
    if not (isinstance(outputs, list) and len(outputs[0]) == 10):
        raise RuntimeError(f"{found.url} answers {outputs}")


def wrk(found: Server, body: str, root: Path, connections: int, seconds: float) -> Measured:
    """Return what wrk measures with `connections` kept-alive connections."""
    headers = {"Content-Type": "application/json", **found.headers}
    lines = [f'wrk.method = "POST"\nwrk.body = [==[{body}]==]']
    lines += [f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items()]
    script = root / "post.lua"
    script.write_text("\n".join(lines))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "-s", str(script)]
    before = sum(map(cpu_seconds, found.pids))
    shown = subprocess.run(
        [*command, found.url], capture_output=True, text=True, timeout=seconds + 60, check=True
    ).stdout
    spent = sum(map(cpu_seconds, found.pids)) - before
    answered = re.search(r"(\d+) requests in", shown)
    percentiles = dict(re.findall(r"^\s+(50|99)%\s+(\S+)$", shown, re.MULTILINE))
    rate = re.search(r"Requests/sec:\s+(\S+)", shown)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", shown)
    broken = re.search(
        r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", shown
    )
    errors = int(bad[1]) if bad else 0
    errors += sum(map(int, broken.groups())) if broken else 0
    return Measured(
        float(rate[1]) if rate else 0.0,
        milliseconds(percentiles.get("50", "")),
        milliseconds(percentiles.get("99", "")),
        errors,
        spent / max(1, int(answered[1]) if answered else 0) * 1e6,
    )


def milliseconds(text: str) -> float:
    """Return a time as wrk writes it; NaN where it gave none, for nothing was answered."""
    found = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text)
    units = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
    return float(found[1]) * units[found[2]] if found else float("nan")


def cpu_seconds(pid: int) -> float:
    try:
        spent = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(spent.user + spent.system)


def pss(pid: int) -> int:
    """Return the memory of a process in bytes, shared pages divided among those who share them."""
    with contextlib.suppress(OSError, IndexError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return int(re.findall(r"^Pss:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024
    return 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def show_table(model: str, rows: dict[str, Row]) -> None:
    """Print what every server did: throughput and latency, memory, start-up."""
    head = [f"{c} conn: req/s   p50   p99 ms" for c in CONNECTIONS]
    print(f"\n{model:4} {'server':10} | {' | '.join(head)} | MB    start s")
    for name, row in rows.items():
        cells = [f"{row[c].rate:13.0f} {row[c].p50:6.2f} {row[c].p99:7.2f}" for c in CONNECTIONS]
        print(f"{model:4} {name:10} | {' | '.join(cells)} | {row.memory:4.0f}  {row.start:5.1f}")


def draw(table: dict[str, dict[str, Row]], path: Path) -> None:
    """Draw the throughput of every server at 32 connections, one panel a model."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(table), figsize=(5 * len(table), 3), squeeze=False)
    for axes, (model, rows) in zip(panels[0], table.items(), strict=True):
        ordered = sorted(rows.items(), key=lambda item: item[1][32].rate)
        colours = ["tab:orange" if name.startswith("nbaas") else "tab:gray" for name, _ in ordered]
        bars = axes.barh(
            [name for name, _ in ordered], [row[32].rate for _, row in ordered], color=colours
        )
        axes.bar_label(bars, fmt="{:,.0f}", padding=3)
        axes.set_title(f"{model}, 32 connections: requests/s", loc="left", fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(x=0.2)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def show_ratios(model: str, rows: dict[str, Row]) -> None:
    """Print nbaas over each peer: throughput and latency at every number of connections."""
    ours = rows.get("nbaas")
    if ours is None:
        return
    for name, row in rows.items():
        if name != "nbaas":
            cells = "  ".join(
                f"c={c}: {ours[c].rate / row[c].rate:5.2f}x rate, "
                f"{ours[c].p50 / row[c].p50:5.2f}x p50, {ours[c].p99 / row[c].p99:5.2f}x p99, "
                f"{ours[c].cpu / row[c].cpu:5.2f}x CPU"
                for c in CONNECTIONS
            )
            print(f"{model:4} nbaas / {name:10} {cells}")


def best_peer_ratio(rows: dict[str, Row]) -> float:
    peers = [row[32].rate for name, row in rows.items() if not name.startswith("nbaas")]
    return rows["nbaas"][32].rate / max(peers) if peers and "nbaas" in rows else 0.0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    raise SystemExit(main())
