"""The nbaas command as a person at a terminal meets it: real processes, one line a mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

import nbaas
from nbaas.jobs.submit import new_spec, submit
from nbaas.launchers.processes import kill_tagged
from nbaas.placement import HostResources, place

LIGHT_RANK = Path(__file__).parents[1] / "jobs" / "light_rank.py"


@pytest.fixture
def job(settings, tmp_path):
    """Start a job whose two ranks, without torch, run `cell`."""
    started = []
    python = tmp_path / "light-python"
    python.write_text(
        f"#!{sys.executable} -S\n"
        f"import sys; sys.path.append({str(Path(nbaas.__file__).parents[1])!r})\n"
        f"exec(compile(open({str(LIGHT_RANK)!r}).read(), {str(LIGHT_RANK)!r}, 'exec'))\n"
    )
    python.chmod(0o755)

    def write_bundle(cell):
        def write(bundle):
            bundle.mkdir()
            (bundle / "cell.py").write_text(cell)

        return write

    def start(cell, name):
        slots = place(HostResources("here", 2), ranks=2)
        spec = new_spec(replace(settings, engine="ddp", stop_grace=2.0), slots, name=name)
        started.append(submit(settings, replace(spec, python=str(python)), write_bundle(cell)))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.wait(10)
        kill_tagged(one.id)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", "COMMAND"),
        ("jbos", "no command 'jbos' (did you mean jobs?)"),
        ("engine biuld", "no command 'biuld' (did you mean build?)"),
        ("jobs --jsn", "'--jsn' is not understood (did you mean --json?)"),
        ("jobs --limit ten", "argument --limit: invalid int value: 'ten'"),
        ("logs", "required: name"),
    ],
)
def test_a_line_not_understood_is_one_line_and_code_2(cli, line, words):
    done = cli(*line.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("nbaas: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_an_unknown_job_is_one_line_and_code_1(cli):
    for command in ("logs", "stop"):
        done = cli(command, "digits")
        assert done.returncode == 1
        assert done.stderr.startswith("nbaas: no job called 'digits'")
        assert done.stderr.count("\n") == 1


def test_nothing_yet_says_how_to_begin(cli):
    assert cli("jobs").stdout == "no job yet: %%train in a notebook starts one\n"
    assert cli("jobs", "--json").stdout == ""
    assert cli("endpoints").stdout == "no endpoint yet: %deploy in a notebook makes one\n"


def test_doctor_names_what_is_here_with_a_way_out_for_the_rest(cli):
    shown = cli("doctor").stdout.splitlines()
    names = [line[9:27].strip() for line in shown]
    assert {"torch", "engine horovod", "cores", "GPUs", "store", "Jupyter server"} <= set(names)
    assert all("; " in line for line in shown if line.startswith("missing"))


def test_a_store_that_cannot_be_written_is_named(cli, tmp_path):
    (tmp_path / "file").write_text("")
    done = cli("doctor", NBAAS_HOME=str(tmp_path / "file" / "home"))
    assert done.returncode == 1
    assert any(
        "missing  store" in line and "NBAAS_HOME" in line for line in done.stdout.splitlines()
    )


@pytest.mark.ranks
def test_a_job_is_listed_read_and_stopped(cli, job, eventually):
    ended = job("print('hello from the cell')", "second")
    status = ended.wait(90)
    assert status.state.value == "SUCCEEDED", status
    # After the other one: two ranks take two cores, so they would wait for each other.
    running = job("print('step', flush=True)\nimport time\ntime.sleep(200)", "first")
    # Listed twice while it starts it would have two states.
    eventually(lambda: running.status().state.value == "RUNNING", timeout=90)
    rows = [json.loads(line) for line in cli("jobs", "--json").stdout.splitlines()]
    assert {(row["name"], row["state"], row["ranks"]) for row in rows} == {
        ("second", "SUCCEEDED", 2),
        ("first", "RUNNING", 2),
    }
    table = cli("jobs").stdout.splitlines()
    assert any(line.startswith("second  SUCCEEDED  2  ") for line in table)
    assert len(cli("jobs", "--limit", "1").stdout.splitlines()) == 2
    assert "hello from the cell" in cli("logs", "second").stdout
    assert "hello from the cell" in cli("logs", "second", "--follow").stdout
    assert "has ranks 0 to 1" in cli("logs", "second", "--rank", "2").stderr
    assert cli("stop", "first", "--now").stdout.startswith("first: ")
    assert running.status().state.final
    assert cli("stop", "first").stdout.startswith("first has ended before: ")


@pytest.mark.ranks
def test_serve_tells_its_address_and_ends_on_a_signal(cli, settings):
    serving = subprocess.Popen(
        [sys.executable, "-m", "nbaas.cli", "serve"],
        env=os.environ | {"NBAAS_HOME": str(settings.home), "NBAAS_CACHE": str(settings.cache)},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        address = serving.stdout.readline().split()[2].rstrip(";")
        with urllib.request.urlopen(f"{address}/v2/health/live", timeout=10) as answer:
            assert answer.status == 200
        second = cli("serve")
        assert (second.returncode, second.stderr.count("\n")) == (1, 1)
        assert "runs already" in second.stderr
        serving.terminate()
        assert serving.wait(30) in (0, -signal.SIGTERM)
    finally:
        serving.kill()
        serving.wait()
