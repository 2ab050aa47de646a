"""Ranks without an engine: a process that has torch imported and forks one for each job it is told.

A job's directory comes in as a line; its exit code goes out as one.  A rank loads the bundle, runs
the cell and writes the result; what it prints is in `log`.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path

import torch

from nbaas.bundle import JournalSink, describe_failure, open_bundle, set_sink, write_result
from nbaas.records import to_json


def run(job: Path) -> int:
    set_sink(JournalSink(job / "displays.jsonl"))
    bundle = open_bundle(job / "bundle")
    namespace = bundle.load()
    code = 0
    try:
        bundle.execute(namespace)
    except Exception as failed:  # noqa: BLE001 - the cell's own, of any kind
        failure = describe_failure(failed, 0, bundle)
        (job / "failure.json").write_text(json.dumps(to_json(failure)))
        code = 1
    write_result(job / "result", bundle, namespace, bundle.blobs)
    return code


def forked(job: Path) -> int:
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    log = os.open(job / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    code = 70
    try:
        os.chdir((job / "cwd").read_text())
        code = run(job)
    except BaseException:  # noqa: BLE001 - told by the exit code and in the log
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for line in sys.stdin:
        print(forked(Path(line.strip())), flush=True)
