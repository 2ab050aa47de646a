"""P62: requests that schemathesis makes up from our own OpenAPI document, right and wrong ones."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_process import BASE, TOKEN

pytestmark = pytest.mark.ranks

EXAMPLES = 100  # of each operation and phase
REQUESTS = 2000
# 403, not 401, is jupyter-server's answer to a stranger; P60 has the whole matrix.
LEFT_OUT = "missing_required_header"


def test_p62_what_schemathesis_makes_up_breaks_nothing_and_is_answered_as_described(
    server, start_job, tmp_path
):
    job = start_job("for n in range(1, 30): step(n, 0.001)\nprint('x')\nraise ValueError('y')")
    job.wait(30)
    url = f"http://127.0.0.1:{server.port}{BASE}nbaas/api/openapi.json"
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", url, "--no-color"]
    command += ["--header", f"Authorization: token {TOKEN}", "--seed", "20260101"]
    command += ["--checks", "all", "--exclude-checks", LEFT_OUT, "--suppress-health-check", "all"]
    command += ["--max-examples", str(EXAMPLES), "--warnings", "off"]
    hooks = {"SCHEMATHESIS_HOOKS": "fuzz_hooks", "NBAAS_TEST_JOB": job.id}
    done = subprocess.run(
        command,
        env=os.environ | hooks | {"PYTHONPATH": str(Path(__file__).parent)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-6000:]
    generated = re.search(r"([\d,]+) generated", told)
    assert generated, told[-2000:]
    assert int(generated[1].replace(",", "")) >= REQUESTS, generated[0]
    assert server.get("nbaas/api/jobs").status == 200
