"""P68: no spelling of a path leads out of the folder of jobs or of endpoints, and no link does."""

from __future__ import annotations

import http.client
import itertools
import os
import shutil
import threading

import pytest
from jupyter_process import BASE, TOKEN

pytestmark = pytest.mark.ranks

DOTS = [
    "..", "%2e%2e", "%2E.", ".%2e", "%252e%252e", "%25252e%25252e", "%c0%ae%c0%ae", "%u002e%u002e",
    "..%00", "..;", "....", "%ff%fe..",
]  # fmt: skip
SLASHES = ["/", "%2f", "%252f", "%5c", "\\", "%c0%af", "//"]
TARGETS = ["etc/passwd", "spec.json", ""]
ABSOLUTE = ["/etc/passwd", "%2fetc%2fpasswd", "file:%2f%2f%2fetc%2fpasswd", "C:%5cwindows", "~root"]
VARIANTS = [
    dots + slash + dots + slash + target
    for dots, slash, target in itertools.product(DOTS, SLASHES, TARGETS)
] + ABSOLUTE
ROUTES = [
    "nbaas/api/jobs/{}", "nbaas/api/jobs/{}/log", "nbaas/api/jobs/20260101-000000-00000000/{}",
    "nbaas/api/endpoints/{}/rollback", "nbaas/v2/models/{}", "nbaas/v2/models/{}/infer",
]  # fmt: skip


def test_p68_no_spelling_of_a_path_leads_out(server):
    assert len(VARIANTS) >= 200
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    headers = {"Authorization": f"token {TOKEN}"}
    seen = set()
    for variant, route in itertools.product(VARIANTS, ROUTES):
        method = "POST" if route.endswith(("rollback", "infer")) else "GET"
        connection.putrequest(method, BASE + route.format(variant), skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", "0")
        connection.endheaders()
        answer = connection.getresponse()
        body = answer.read()
        seen.add(answer.status)
        # 302: jupyter-server takes a slash off the end; 503: nothing is deployed here.
        assert answer.status in {302, 400, 404, 405, 503}, (variant, route, answer.status)
        assert b"root:" not in body, (variant, route)
        location = answer.getheader("Location", BASE)
        assert location.startswith(BASE), location
        assert "//" not in location.split("?")[0], location
    connection.close()
    assert 404 in seen


def test_p68_a_log_that_is_a_link_is_not_followed(server, start_job):
    job = start_job("print('mine', flush=True)")
    job.wait(30)
    path = job.paths.log(1)
    path.unlink()
    path.symlink_to("/etc/passwd")
    answer = server.get(f"nbaas/api/jobs/{job.id}/log?rank=1")
    assert answer.status == 409
    assert "r1.log" in answer.json["error"]
    assert b"root:" not in answer.body


def test_p68_a_log_that_becomes_a_link_while_it_is_read_is_never_followed(server, start_job):
    job = start_job("print('mine', flush=True)")
    job.wait(30)
    path, kept = job.paths.log(0), job.paths.root / "kept"
    shutil.copy(path, kept)
    over = threading.Event()

    def swap() -> None:
        for number in itertools.count():
            if over.is_set():
                return
            spare = path.with_name(f"spare{number}")
            if number % 2:
                os.link(kept, spare)
            else:
                spare.symlink_to("/etc/passwd")
            spare.rename(path)

    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        answers = [server.get(f"nbaas/api/jobs/{job.id}/log") for _ in range(200)]
    finally:
        over.set()
        swapper.join()
    assert {answer.status for answer in answers} <= {200, 409}
    assert not [answer for answer in answers if b"root:" in answer.body]


def test_p68_a_job_folder_that_is_a_link_is_no_job(server, start_job, tmp_path):
    job = start_job("step(1)")
    job.wait(30)
    outside = tmp_path / "20260101-000000-0000beef"
    shutil.copytree(job.paths.root, outside)
    link = server.home / "jobs" / outside.name
    link.symlink_to(outside)
    try:
        # Its record names another job: what is linked in is not taken for one of ours.
        assert server.get(f"nbaas/api/jobs/{outside.name}").status == 404
    finally:
        link.unlink()
