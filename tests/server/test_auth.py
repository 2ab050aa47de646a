"""P60: every route, as the server's own router lists it, refuses who should be refused."""

from __future__ import annotations

import json
import re
from time import time

import pytest
from jupyter_server.serverapp import ServerApp
from tornado.routing import PathMatches
from tornado.web import create_signed_value

from nbaas.server.live import LiveHandler
from nbaas.server.proxy import ProxyHandler
from nbaas.server.routes import ROUTES

pytestmark = pytest.mark.ranks

DAY = 86_400  # seconds
ANN = json.dumps(
    dict.fromkeys(("username", "name", "display_name", "initials", "color", "avatar_url"), "ann")
)
JOB = "20260101-000000-00000000"
PATHS = [
    "/nbaas/api/openapi.json",
    "/nbaas/api/jobs",
    f"/nbaas/api/jobs/{JOB}",
    f"/nbaas/api/jobs/{JOB}/log",
    f"/nbaas/api/jobs/{JOB}/outputs",
    f"/nbaas/api/jobs/{JOB}/stop",
    f"/nbaas/api/jobs/{JOB}/kill",
    f"/nbaas/api/jobs/{JOB}/checkpoint",
    f"/nbaas/api/jobs/{JOB}/resume",
    "/nbaas/api/hosts",
    "/nbaas/api/hosts/check",
    "/nbaas/api/live",
    "/nbaas/api/endpoints",
    "/nbaas/api/endpoints/digits/card",
    "/nbaas/api/endpoints/digits/canary",
    "/nbaas/api/endpoints/digits/token",
    "/nbaas/api/endpoints/digits/tokens",
    "/nbaas/api/endpoints/digits/tokens/revoke",
    "/nbaas/api/endpoints/digits/undeploy",
    "/nbaas/api/endpoints/digits/rollback",
    "/nbaas/v2",
    "/nbaas/v2/repository/index",
    "/nbaas/v2/models/digits",
    "/nbaas/v2/models/digits/versions/1/infer",
    "/nbaas/predict/digits",
    "/nbaas/api/nothing/here",
]


def handler_of(path):
    return next((handler for route, handler in ROUTES if re.fullmatch(route, path)), None)


# The socket has tests of its own: test_live.py.
CALLS = [
    (verb, path)
    for path in PATHS
    if handler_of(path) is not LiveHandler
    for verb in handler_of(path).SUPPORTED_METHODS
]
each_call = pytest.mark.parametrize(("method", "path"), CALLS)
REFUSED = {401, 403, 404, 405}


def test_every_route_has_an_example_here():
    covered = {route for route, _ in ROUTES for path in PATHS if re.fullmatch(route, path)}
    assert covered == {route for route, _ in ROUTES}


def send(server, method, path, **headers):
    return server.request(method, path, b"{}" if method == "POST" else None, **headers)


def test_p60_the_routers_routes_are_those_of_the_table(tmp_path, monkeypatch):
    for variable in ("NBAAS_HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    app = ServerApp()
    app.initialize(
        ["--allow-root", "--ServerApp.jpserver_extensions={'nbaas': True}", "--no-browser"],
        new_httpserver=False,
    )
    try:
        routers = [rule.target for rule in app.web_app.default_router.rules]
        rules = [rule for router in routers for rule in getattr(router, "rules", [])]
        patterns = {
            rule.matcher.regex.pattern.removesuffix("$")
            for rule in rules
            if isinstance(rule.matcher, PathMatches) and "nbaas" in rule.matcher.regex.pattern
        }
    finally:
        app.clear_instance()
    assert {path for path, _ in ROUTES} == patterns


@each_call
def test_p60_without_a_token_nothing_answers(server, method, path):
    answer = send(server, method, path, token=None)
    assert answer.status == 403
    assert answer.json["error"]


@each_call
def test_p60_a_wrong_token_is_refused(server, method, path):
    assert send(server, method, path, token="another-token").status == 403
    assert send(server, method, f"{path}?token=another", token=None).status == 403


def is_let_in(answer, path):
    """Tell whether the answer is not one of ours that refuses; a gateway that runs says 405 too."""
    refused = {401, 403} if handler_of(path) is ProxyHandler else {401, 403, 405}
    return answer.status not in refused


@each_call
def test_p60_the_right_token_is_let_in(server, method, path):
    assert is_let_in(send(server, method, path), path)


@each_call
def test_p60_a_cookie_needs_the_xsrf_token_to_change_anything(server, method, path):
    cookie = server.cookie_header()
    bare = send(server, method, path, token=None, Cookie=cookie)
    armed = send(
        server, method, path, token=None, Cookie=cookie, X_XSRFToken=server.cookies["_xsrf"]
    )
    assert (bare.status == 403) is (method == "POST")
    assert is_let_in(armed, path)


@each_call
def test_p60_a_forged_cookie_is_refused(server, method, path):
    name = next(name for name in server.log_in() if name.startswith("username"))
    forged = f'{name}="2|1:0|10:1700000000|8:username|4:cm9v|{"0" * 64}"'
    assert send(server, method, path, token=None, Cookie=forged).status == 403


@each_call
def test_p60_a_cookie_that_is_too_old_or_of_another_server_is_refused(server, method, path):
    """Signed as this server signs, but 40 days ago; signed today, but by somebody else."""
    name = next(name for name in server.log_in() if name.startswith("username"))
    old = create_signed_value(server.cookie_secret(), name, ANN, clock=lambda: time() - 40 * DAY)
    foreign = create_signed_value(b"another server's secret", name, ANN)
    for value in (old, foreign):
        cookie = f'{name}="{value.decode()}"'
        assert send(server, method, path, token=None, Cookie=cookie).status == 403


def test_p60_the_cookie_that_was_too_old_is_let_in_when_it_is_new(server):
    name = next(name for name in server.log_in() if name.startswith("username"))
    value = create_signed_value(server.cookie_secret(), name, ANN).decode()
    assert server.get("nbaas/api/jobs", token=None, Cookie=f'{name}="{value}"').status == 200


@each_call
def test_p60_another_site_is_refused(server, method, path):
    cookie = server.cookie_header()
    headers = {"Cookie": cookie, "X_XSRFToken": server.cookies["_xsrf"]}
    answer = send(server, method, path, token=None, Origin="https://evil.example", **headers)
    assert answer.status in REFUSED
    assert "Access-Control-Allow-Origin" not in answer.headers


@each_call
def test_p60_a_rebound_host_name_is_refused(server, method, path):
    assert send(server, method, path, Host="evil.example").status == 403


@each_call
def test_p60_a_read_only_user_cannot_change_anything(read_only_server, method, path):
    answer = send(read_only_server, method, path)
    assert (answer.status == 403) is (method != "GET")


@each_call
def test_p60_a_preflight_of_another_site_gets_nothing(server, method, path):
    answer = server.request(
        "OPTIONS", path, token=None, Origin="https://evil.example",
        Access_Control_Request_Method=method, Access_Control_Request_Headers="authorization",
    )  # fmt: skip
    assert answer.status == 405
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_p60_a_form_of_another_site_cannot_stop_a_job(server):
    answer = server.post(
        f"nbaas/api/jobs/{JOB}/stop",
        b"grace=0",
        token=None,
        Cookie=server.cookie_header(),
        Content_Type="text/plain",
        Origin="https://evil.example",
    )
    assert answer.status in {403, 404}
    assert "no job has the id" not in answer.body.decode()
