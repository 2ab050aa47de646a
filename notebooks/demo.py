"""Run quickstart.ipynb headless beside a real Jupyter server, ask the endpoint through it, tell.

`make demo` calls this.  Exit code 1 where a cell fails, the accuracy is below 0.9, or the endpoint
does not answer what `model(x)` is in the notebook.  The executed notebook is left in test-output/.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from nbaas.config import Settings, load_settings
from nbaas.deploy.client import list_endpoints, undeploy
from nbaas.deploy.hosting import stop_host
from nbaas.errors import NbaasError
from nbaas.jobs.store import list_jobs

HERE = Path(__file__).resolve().parent
NOTEBOOK = HERE / "quickstart.ipynb"
EXECUTED = HERE.parent / "test-output" / NOTEBOOK.name
ENDPOINT = "digits"
ACCURACY = 0.9
DIFFERENCE = 1e-4  # largest one between an answer and model(x): the batch differs, so may the sums
CELL_TIMEOUT = 600  # seconds
START_TIMEOUT = 60.0
# Run in the notebook's kernel after its last cell: what the notebook itself found.
REPORT = """
import json
with torch.no_grad():
    expected = model(x)
print(json.dumps({
    "losses": losses, "accuracy": test_accuracy, "x": x.tolist(), "expected": expected.tolist()
}))
"""


@dataclass(frozen=True)
class Server:
    url: str  # with the base URL, ends in '/'
    token: str

    def ask(self, path: str, body: Any = None) -> Any:
        """Return the JSON that the Jupyter server answers to a GET, or to a POST of `body`."""
        request = urllib.request.Request(
            self.url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)


@contextlib.contextmanager
def jupyter_server(folder: Path) -> Iterator[Server]:
    """A Jupyter server of its own on a free port, ended when the block is left."""
    token = secrets.token_hex(24)
    # The token goes by the environment: a command line can be read by everybody.
    environ = os.environ | {"JUPYTER_TOKEN": token, "JUPYTER_RUNTIME_DIR": str(folder)}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyter_server", "--allow-root", "--no-browser",
             "--ServerApp.ip=127.0.0.1", "--ServerApp.port=0", "--ServerApp.port_retries=0",
             f"--ServerApp.root_dir={HERE}"],
            env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )
    try:
        yield _ready(folder, token, process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(folder: Path, token: str, process: subprocess.Popen[bytes]) -> Server:
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline and process.poll() is None:
        for name in folder.glob("jpserver-*.json"):
            with contextlib.suppress(OSError, ValueError):
                server = Server(json.loads(name.read_text())["url"], token)
                server.ask("api/status")
                return server
        time.sleep(0.1)
    raise RuntimeError("the Jupyter server did not start:\n" + (folder / "server.log").read_text())


def run_notebook() -> dict[str, Any]:
    """Execute the notebook with .venv's kernel, print its outputs as they come; its own findings."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(REPORT))
    began = time.monotonic()

    def show(cell: Any, cell_index: int, **_: Any) -> None:
        nonlocal began
        if cell_index < len(notebook.cells) - 1:
            print(f"\nIn [{cell['execution_count']}] {_first_line(cell)}")
            print(_text_of(cell["outputs"]), f"    ({time.monotonic() - began:.1f} s)", sep="")
        began = time.monotonic()

    client = NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": str(HERE)}},
        on_cell_executed=show,
    )
    try:
        client.execute()
    finally:
        EXECUTED.parent.mkdir(exist_ok=True)
        report = notebook.cells.pop()
        nbformat.write(notebook, EXECUTED)
    found: dict[str, Any] = json.loads("".join(o.get("text", "") for o in report["outputs"]))
    return found


def _first_line(cell: Any) -> str:
    return str(cell["source"]).strip().partition("\n")[0]


def _text_of(outputs: list[Any]) -> str:
    """Return what a terminal can show of a cell's outputs, indented."""
    texts = [
        output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs
    ]
    lines = [line for text in texts for line in "".join(text).rstrip().splitlines()]
    # The live panel and the figure that stays say the same in text.
    told = dict.fromkeys(lines)
    return "".join(f"    {line}\n" for line in told)


def predict(server: Server, x: list[list[float]]) -> tuple[str, list[list[float]]]:
    """Return the URL and the rows that the endpoint answers through the Jupyter server."""
    path = f"nbaas/v2/models/{ENDPOINT}"
    signature = server.ask(path)["inputs"][0]
    tensor = {
        "name": signature["name"],
        "shape": [len(x), len(x[0])],
        "datatype": signature["datatype"],
        "data": [value for row in x for value in row],
    }
    answer = server.ask(f"{path}/infer", {"inputs": [tensor]})["outputs"][0]
    rows, columns = answer["shape"]
    data = answer["data"]
    return f"{server.url}{path}/infer", [
        data[row * columns : (row + 1) * columns] for row in range(rows)
    ]


def clear_away(settings: Settings) -> None:
    """Take the endpoint out of service; end the host too where it serves nobody else."""
    with contextlib.suppress(NbaasError):
        undeploy(settings, ENDPOINT)
    others = [one for one in list_endpoints(settings) if one.state == "READY"]
    if not others:
        stop_host(settings)
    for job in list_jobs(settings, limit=5):
        if job.name == ENDPOINT:
            job.kill()


def verdict(found: dict[str, Any], answer: list[list[float]], settings: Settings) -> list[str]:
    """Return what is wrong; nothing where the demo showed what it promises."""
    pairs = [
        abs(a - b)
        for got, wanted in zip(answer, found["expected"], strict=True)
        for a, b in zip(got, wanted, strict=True)
    ]
    job = list_jobs(settings, limit=1)[0]
    state = job.status().state.value
    print(f"ranks     {job.spec.world_size} over {job.spec.engine}: {state}")
    print("losses    " + " ".join(f"{loss:.4f}" for loss in found["losses"]))
    print(f"accuracy  {found['accuracy']:.3f} on the held-out digits")
    print(f"answer    {[max(range(len(row)), key=row.__getitem__) for row in answer]}, ", end="")
    print(f"differs from model(x) by at most {max(pairs):.1e}")
    wrong = []
    if job.spec.world_size != 2 or state != "SUCCEEDED":
        wrong.append(f"the job has {job.spec.world_size} ranks and is {state}")
    if found["losses"][-1] >= found["losses"][0]:
        wrong.append("the loss did not fall")
    if found["accuracy"] < ACCURACY:
        wrong.append(f"accuracy {found['accuracy']:.3f} is below {ACCURACY}")
    if max(pairs) > DIFFERENCE:
        wrong.append(f"the endpoint's answer differs from model(x) by {max(pairs):.1e}")
    return wrong


def main() -> int:
    began = time.monotonic()
    # The demo's warm process should not stay for half an hour on a machine that only wanted a look.
    os.environ.setdefault("NBAAS_ZYGOTE_IDLE", "20")
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="nbaas-demo-") as folder:
        try:
            with jupyter_server(Path(folder)) as server:
                found = run_notebook()
                url, answer = predict(server, found["x"])
                print(f"\nURL       {url}")
                wrong = verdict(found, answer, settings)
        except CellExecutionError as failed:
            wrong = [f"a cell failed:\n{failed}"]
        finally:
            clear_away(settings)
    print(f"seconds   {time.monotonic() - began:.1f}; the notebook as run: {EXECUTED}")
    for reason in wrong:
        print(f"demo: {reason}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
