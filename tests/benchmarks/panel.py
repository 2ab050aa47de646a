"""What a live panel costs at 1,000 records a second: step, lag, messages, notebook file.

Run: `python tests/benchmarks/panel.py [--seconds 20]`.  A real kernel trains a cell on one rank;
what it sends is read as a front end does.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from jupyter_client.manager import start_new_kernel

ROOT = Path(__file__).parents[2]
PREPARE = """
%load_ext nbaas
import json, statistics, time, torch, nbaas
SINCE = {since}
"""
PACED = """%%train --ranks 1 --engine ddp --name paced
for n in range(1, {records} + 1):
    time.sleep(max(0.0, SINCE + {lead} + n / 1000 - time.time()))
    nbaas.log(t=time.time() - SINCE, step=n)
"""
STEPS = """%%train --ranks 1 --engine ddp --name steps
batch = torch.randn(300, 300)
taken = [[], []]
for block in range({blocks}):
    for n in range(25):
        began = time.perf_counter()
        for _ in range(10):
            batch = torch.tanh(batch @ batch.T / 300)
            if block % 2:
                nbaas.log(value=began, step=block * 250 + n * 10 + _)
        left = max(0.0, 0.01 - (time.perf_counter() - began))
        taken[block % 2].append(time.perf_counter() - began)
        time.sleep(left)  # 100 steps, so 1,000 records a second
print("RESULT", json.dumps([statistics.median(one) for one in taken]))
"""


def messages(client: Any, code: str) -> list[tuple[float, dict[str, Any]]]:
    """Run a cell; returns what the kernel published meanwhile, with the time at which it came."""
    asked, found = client.execute(code), []
    while True:
        try:
            message = client.get_iopub_msg(timeout=120)
        except queue.Empty:
            raise SystemExit("the kernel says nothing any more") from None
        found.append((time.time(), message))
        content = message["content"]
        if message["msg_type"] == "error":
            raise SystemExit("\n".join(content["traceback"]))
        ours = message["parent_header"].get("msg_id") == asked
        if ours and content.get("execution_state") == "idle":
            return found


def points(message: dict[str, Any], name: str) -> np.ndarray:
    """Return the values of a curve that a message of the panel brings; empty without any."""
    data = message["content"].get("data", {})
    inside = data.get("content", {}) if isinstance(data, dict) else {}
    for index, curve in enumerate(inside.get("curves", [])):
        if curve["name"] == name:
            return np.frombuffer(message["buffers"][2 * index + 1], np.float32)
    return np.empty(0, np.float32)


def lags(found: list[tuple[float, dict[str, Any]]], since: float) -> np.ndarray:
    """Return how long each record took to the message that brought it, in seconds."""
    until, taken = 0.0, []
    for moment, message in found:
        values = points(message, "t")
        if len(values) and values[-1] > until:
            # One that decimation leaves out is on its way as long as its neighbours.
            records = np.arange(max(until, values[0]), values[-1], 0.001)
            taken.append(moment - since - records)
            until = float(values[-1])
    return np.concatenate(taken)


def outputs_kb(found: list[tuple[float, dict[str, Any]]]) -> float:
    """Return the size of what the cell leaves in the notebook's file."""
    last = {
        message["content"]["transient"]["display_id"]: message["content"]["data"]
        for _, message in found
        if message["msg_type"] in {"display_data", "update_display_data"}
    }
    return sum(len(json.dumps(data)) for data in last.values()) / 1000


def through_a_kernel(seconds: int) -> None:
    manager, client = start_new_kernel(extra_arguments=["--log-level=ERROR"])
    since = time.time()
    try:
        messages(client, PREPARE.format(since=since))
        for length in (seconds // 4, seconds):
            lead = time.time() - since + 10  # seconds until the ranks are up
            found = messages(client, PACED.format(records=1000 * length, lead=lead))
            comms = [moment for moment, message in found if message["msg_type"] == "comm_msg"]
            running = [moment for moment in comms if moment > since + lead]
            print(
                f"{1000 * length:>7,} records: lag p50 {np.percentile(lags(found, since), 50):.2f} s, "
                f"p99 {np.percentile(lags(found, since), 99):.2f} s; "
                f"{len(running) / length:.1f} kernel messages/s; "
                f"{outputs_kb(found):.0f} kB in the notebook"
            )
        found = messages(client, STEPS.format(blocks=4 * seconds))
        text = "".join(m["content"]["text"] for _, m in found if m["msg_type"] == "stream")
        without, logged = json.loads(text.split("RESULT", 1)[1].splitlines()[0])
        print(
            f"step of {1000 * without:.2f} ms; logging 1,000 a second: {logged / without - 1:+.1%}"
        )
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NBAAS_HOME": home, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        through_a_kernel(options.seconds)


if __name__ == "__main__":
    main()
