"""A notebook without a browser: cells run in a real ipykernel, outputs collected as a front end would."""

from __future__ import annotations

import os
import queue
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client import BlockingKernelClient, KernelManager

ROOT = Path(__file__).resolve().parents[2]
ANSI = re.compile(r"\x1b\[[0-9;]*m")
WIDGET = "application/vnd.jupyter.widget-view+json"
TIMEOUT = 120.0  # seconds for one cell


@dataclass
class Cell:
    """What one cell left: its text, its rich outputs as they are after updates, its error."""

    stdout: str = ""
    stderr: str = ""
    outputs: list[dict[str, Any]] = field(default_factory=list)  # MIME bundles, in order
    error: str = ""  # the traceback as text, without colours
    error_name: str = ""
    number: int = 0
    payload: list[Any] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [line for line in self.error.splitlines() if line.strip()]

    def texts(self) -> str:
        return "\n".join(output.get("text/plain", "") for output in self.outputs)


class Notebook:
    """One kernel; `run` returns when the cell is over, whatever it did."""

    def __init__(self, home: Path, **env: str) -> None:
        self.home = home
        kernel_env = {
            **os.environ,
            "NBAAS_HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "NBAAS_ZYGOTE_IDLE": "60",
            "IPYTHONDIR": str(home / "ipython"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            **env,
        }
        (home / "work").mkdir(parents=True, exist_ok=True)
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=kernel_env, cwd=str(home / "work"), extra_arguments=[])
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self._displays: dict[str, dict[str, Any]] = {}  # of all cells, by display id

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *exc: object) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(
        self, code: str, *, timeout: float = TIMEOUT, during: Callable[[Cell], None] | None = None
    ) -> Cell:
        """Run a cell; `during` is called after each message, to interrupt for example."""
        cell = Cell()
        request = self.client.execute(code, store_history=True)
        deadline = time.monotonic() + timeout
        idle = False
        while not idle:
            if time.monotonic() > deadline:
                raise TimeoutError(f"the cell runs on after {timeout} s: {code!r}: {cell}")
            try:
                message = self.client.get_iopub_msg(timeout=0.2)
            except queue.Empty:
                if during is not None:
                    during(cell)
                continue
            kind, content = message["msg_type"], message["content"]
            own = message["parent_header"].get("msg_id") == request
            _collect(cell, self._displays, kind, content, own=own)
            idle = own and kind == "status" and content["execution_state"] == "idle"
            if during is not None:
                during(cell)
        reply = self.client.get_shell_msg(timeout=10)
        while reply["parent_header"].get("msg_id") != request:
            reply = self.client.get_shell_msg(timeout=10)
        cell.number = reply["content"].get("execution_count") or 0
        cell.payload = reply["content"].get("payload", [])
        return cell

    def value(self, expression: str) -> Any:
        """Return the value of a literal expression in the kernel."""
        import ast

        cell = self.run(f"print(repr({expression}))")
        assert not cell.error, cell.error
        return ast.literal_eval(cell.stdout)

    def settled(self, cell: Cell, seconds: float = 10.0) -> Cell:
        """Return an earlier cell once its displays, which a thread updates, hold a picture."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any("image/png" in output for output in cell.outputs):
                break
            self.run("None")
        return cell

    def complete(self, line: str) -> list[str]:
        """Return what Tab offers at the end of `line`."""
        reply = self.client.complete(line, len(line), reply=True, timeout=20)
        return list(reply["content"]["matches"])

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()


def _collect(
    cell: Cell, displays: dict[str, Any], kind: str, content: dict[str, Any], *, own: bool
) -> None:
    if kind == "update_display_data":
        shown = displays.get(content["transient"]["display_id"])
        if shown is not None:
            shown.clear()
            shown.update(content["data"])
        return
    if not own:
        return
    if kind == "stream":
        setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
    elif kind in ("display_data", "execute_result"):
        bundle = dict(content["data"])
        cell.outputs.append(bundle)
        if display_id := content.get("transient", {}).get("display_id"):
            displays[display_id] = bundle
    elif kind == "error":
        cell.error = ANSI.sub("", "\n".join(content["traceback"]))
        cell.error_name = content["ename"]
