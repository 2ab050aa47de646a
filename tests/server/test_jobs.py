from __future__ import annotations

import json
import os
import signal

import pytest

from nbaas.jobs.job import open_job
from nbaas.launchers.processes import start_time

pytestmark = pytest.mark.ranks

BASE = "/user/ann/"

TRAINS = "for n in range(1, 51): step(n, 0.001)\nprint('done', rank, flush=True)"
GOES_ON = "print('on', flush=True)\nfor n in range(1, 100000): step(n, 0.02)"
FAILS = "step(1)\nif rank == 1: raise ValueError('no <b>such</b> thing')\ntime.sleep(30)"


def listed(server, job):
    jobs = server.get("nbaas/api/jobs?limit=1000").json["jobs"]
    return next((row for row in jobs if row["id"] == job.id), None)


def in_state(server, job, *states):
    def found():
        row = listed(server, job)
        return row if row and row["state"] in states else None

    return found


def test_a_finished_job_is_listed_with_its_loss_and_seconds(server, start_job):
    job = start_job(TRAINS, name="trains")
    job.wait(30)
    row = listed(server, job)
    assert (row["state"], row["final"], row["name"]) == ("SUCCEEDED", True, "trains")
    assert (row["metric"], row["step"], row["epoch"]) == ("loss", 50, 1)
    assert row["value"] == pytest.approx(1 / 50)
    assert row["placed"] == "2 ranks on the CPU"
    assert 0 < row["seconds"] < 30
    assert len(row["spark"]) > 10


def test_p2_a_job_that_ends_while_nobody_looks_is_right_at_the_next_look(server, start_job):
    job = start_job("step(1)")
    assert listed(server, job) is not None
    job.wait(30)
    assert listed(server, job)["state"] == "SUCCEEDED"


def test_a_running_job_shows_its_ranks_and_moves(server, start_job, eventually):
    job = start_job(GOES_ON)
    first = eventually(in_state(server, job, "RUNNING"))
    eventually(lambda: listed(server, job)["step"] > first["step"])
    row = listed(server, job)
    assert [rank["state"] for rank in row["ranks"]] == ["running", "running"]
    assert [rank["rank"] for rank in row["ranks"]] == [0, 1]


def test_stop_lets_the_ranks_finish_their_step(server, start_job, eventually):
    job = start_job(GOES_ON)
    eventually(in_state(server, job, "RUNNING"))
    answer = server.post(f"nbaas/api/jobs/{job.id}/stop")
    assert answer.status == 202
    assert eventually(in_state(server, job, "STOPPED"))["final"]


def test_kill_ends_the_ranks_and_a_second_one_changes_nothing(server, start_job, eventually):
    job = start_job(GOES_ON)
    eventually(in_state(server, job, "RUNNING"))
    assert server.post(f"nbaas/api/jobs/{job.id}/kill").status == 202
    eventually(in_state(server, job, "CANCELLED"))
    again = server.post(f"nbaas/api/jobs/{job.id}/kill")
    assert (again.status, again.json["state"]) == (202, "CANCELLED")


def test_a_failed_job_names_the_rank_and_the_users_error(server, start_job):
    job = start_job(FAILS)
    job.wait(30)
    row = server.get(f"nbaas/api/jobs/{job.id}").json
    assert row["failure"] == {"rank": 1, "kind": "ValueError", "message": "no <b>such</b> thing"}
    assert "no <b>such</b> thing" in row["traceback"]


def test_p3_a_job_whose_supervisor_was_killed_becomes_lost(server, start_job, eventually):
    job = start_job(GOES_ON)
    eventually(in_state(server, job, "RUNNING"))
    pid, born = job.history().supervisor
    assert start_time(pid) == born
    os.kill(pid, signal.SIGKILL)
    row = eventually(in_state(server, job, "LOST"), timeout=10)
    assert "supervisor" in row["reason"]


def test_the_curves_of_a_job_hold_every_metric(server, start_job):
    job = start_job(TRAINS)
    job.wait(30)
    series = server.get(f"nbaas/api/jobs/{job.id}?points=20").json["series"]["loss"]
    assert len(series["x"]) == len(series["y"]) <= 24
    assert (series["x"][0], series["y"][0]) == (1, 1.0)
    assert (series["x"][-1], series["y"][-1]) == (50, 0.02)


def test_a_log_is_read_on_from_where_one_stopped(server, start_job):
    job = start_job("print('grüße', rank, flush=True)\nprint('ende', flush=True)")
    job.wait(30)
    whole = server.get(f"nbaas/api/jobs/{job.id}/log?rank=1").json
    assert whole["text"] == "grüße 1\nende\n"
    assert whole["ranks"] == 2
    cut = server.get(f"nbaas/api/jobs/{job.id}/log?rank=1&start=0&tail=3").json
    assert (cut["text"], cut["end"]) == ("gr", 2)
    rest = server.get(f"nbaas/api/jobs/{job.id}/log?rank=1&start=2").json
    assert cut["text"] + rest["text"] == whole["text"]


@pytest.mark.parametrize(
    "query",
    ["limit=-1", "limit=x", "limit=1e3", "limit=99999999999999999999", "limit=%00", "limit=%D9%A1"],
)
def test_a_number_that_is_none_is_refused_by_name(server, query):
    answer = server.get(f"nbaas/api/jobs?{query}")
    assert answer.status == 400
    assert answer.json["error"].startswith("limit=")


@pytest.mark.parametrize(
    "body", [b"[", b"[]", b'{"grace": "soon"}', b'{"grace": -1}', b'{"x": 1}', b"\xff", b"[" * 9999]
)
def test_a_body_that_does_not_fit_is_refused_and_nothing_stops(server, start_job, eventually, body):
    job = start_job(GOES_ON)
    eventually(in_state(server, job, "RUNNING"))
    answer = server.post(f"nbaas/api/jobs/{job.id}/stop", body)
    assert answer.status == 400
    assert answer.json["kind"] == "UsageError"
    assert listed(server, job)["state"] == "RUNNING"


def test_a_body_over_the_cap_is_refused_before_it_is_read(server):
    answer = server.request(
        "POST", "nbaas/api/jobs/20260101-000000-00000000/stop", b"", Content_Length="99999999"
    )
    assert answer.status == 413
    assert "65536" in answer.json["error"]


def test_a_job_that_is_not_there_is_a_404_with_the_way_out(server):
    answer = server.get("nbaas/api/jobs/20260101-000000-00000000")
    assert (answer.status, answer.json["kind"]) == (404, "JobNotFoundError")
    assert answer.json["hint"]


@pytest.mark.parametrize(
    "name",
    [
        "..", "../..", "%2e%2e", "%2e%2e%2f%2e%2e", "%252e%252e", "..%5c", "%00", "/etc/passwd",
        "%2fetc%2fpasswd", "20260101-000000-0000000g", "20260101-000000-00000000%00",
        "20260101-000000-00000000/../x", "....//", "%c0%ae%c0%ae", "~root", "C:%5c",
    ],
)  # fmt: skip
@pytest.mark.parametrize("tail", ["", "/log"])
def test_p68_no_path_leads_out_of_the_jobs(server, name, tail):
    answer = server.get(f"nbaas/api/jobs/{name}{tail}")
    # 302: jupyter-server takes a slash off the end.
    assert answer.status in {302, 400, 404}
    assert answer.headers.get("Location", f"{BASE}nbaas/api/jobs/").startswith(BASE)
    assert b"root:" not in answer.body


def test_jobs_that_run_keep_the_server_active(server, start_job, eventually):
    def activity():
        return server.get("api/status?no_track_activity=1").json["last_activity"]

    job = start_job(GOES_ON)
    eventually(in_state(server, job, "RUNNING"))
    first = activity()
    eventually(lambda: activity() > first)


def test_polling_alone_does_not_keep_the_server_active(server, eventually):
    def idle():
        first = server.get("api/status?no_track_activity=1").json["last_activity"]
        server.get("nbaas/api/jobs")
        return server.get("api/status?no_track_activity=1").json["last_activity"] == first

    eventually(idle)


def test_every_answer_is_json_that_no_browser_reads_as_a_page(server):
    for path in ("nbaas/api/jobs", "nbaas/api/hosts", "nbaas/api/jobs/20260101-000000-00000000"):
        answer = server.get(path)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        json.loads(answer.body)


def test_a_job_tells_what_it_has_used(server, start_job):
    job = start_job(TRAINS)
    job.wait(30)
    cost = server.get(f"nbaas/api/jobs/{job.id}").json["cost"]
    assert cost["core_hours"] > 0
    assert cost["estimated"] == ["processor"]


def test_what_an_ended_job_leaves_in_a_notebook_is_drawn_from_its_files(server, start_job):
    job = start_job(TRAINS, name="leaves")
    job.wait(30)
    parts = server.get(f"nbaas/api/jobs/{job.id}/outputs").json
    figure, summary = parts["figure"], parts["summary"]
    assert figure["metadata"]["nbaas"] == {"job": job.id, "part": "figure", "final": True}
    assert figure["data"]["image/png"].startswith("iVBORw0KGgo")
    stored = figure["data"]["application/vnd.nbaas.run+json"]
    assert stored["view"]["state"] == "SUCCEEDED"
    assert [curve["x"][-1] for curve in stored["curves"] if curve["name"] == "loss"] == [50]
    assert summary["data"]["text/plain"].startswith("leaves: succeeded on 2 ranks on the CPU")


def test_a_job_that_runs_has_left_nothing_yet(server, start_job):
    job = start_job(GOES_ON)
    refused = server.get(f"nbaas/api/jobs/{job.id}/outputs")
    assert refused.status == 409
    assert "has not ended" in refused.json["error"]


def test_a_job_that_was_killed_goes_on_under_a_new_id(server, start_job, eventually):
    job = start_job(GOES_ON, name="goes-on")
    eventually(in_state(server, job, "RUNNING"))
    assert server.post(f"nbaas/api/jobs/{job.id}/checkpoint").status == 202
    refused = server.post(f"nbaas/api/jobs/{job.id}/resume")
    assert (refused.status, refused.json["error"]) == (409, "'goes-on' is RUNNING")
    server.post(f"nbaas/api/jobs/{job.id}/kill")
    eventually(in_state(server, job, "CANCELLED"))
    assert server.post(f"nbaas/api/jobs/{job.id}/checkpoint").status == 409
    answer = server.post(f"nbaas/api/jobs/{job.id}/resume")
    assert answer.status == 201
    going = open_job(server.home / "jobs" / answer.json["id"])
    start_job.jobs.append(going)
    assert (going.name, answer.json["resumed_from"]) == ("goes-on", job.id)
    eventually(in_state(server, going, "RUNNING"))
