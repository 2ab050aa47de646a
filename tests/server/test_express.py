"""P60 on the short way: what one was let in for opens nothing for anybody else."""

from __future__ import annotations

import http.client
import json
import shutil
import time

import pytest
from jupyter_process import BASE, TOKEN, start_server, stop_server
from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.auth.identity import IdentityProvider, PasswordIdentityProvider
from read_only_authorizer import ReadOnly
from tornado.httputil import HTTPHeaders, HTTPServerRequest, RequestStartLine

from nbaas.config import Settings
from nbaas.deploy.client import create_token, deploy, revoke_token, token
from nbaas.deploy.hosting import stop_host
from nbaas.server.express import MOST, Admission, Admitted, decides_alone, is_plain

INFER = "nbaas/v2/models/digits/infer"
BODY = json.dumps(
    {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]}]}
).encode()
FULL = {"Authorization": f"token {TOKEN}", "Host": "127.0.0.1", "Content-Length": "5"}


@pytest.fixture(scope="module")
def endpoints(server):
    import torch

    settings = Settings(home=server.home, cache=server.home)
    for name in ("digits", "other"):
        deploy(settings, torch.nn.Linear(4, 3).eval(), name=name, example=torch.zeros(2, 4))
    yield settings
    stop_host(settings)
    shutil.rmtree(settings.endpoints)  # the server is shared: the next file begins at version 1


@pytest.fixture
def admitted(server, endpoints):
    """The server, which has just let the login token in to predict, by the short way as well."""
    assert went(server.post(INFER, BODY)) in {"whole", "short"}
    assert went(server.post(INFER, BODY)) == "short"
    return server


def went(answer):
    """Return the way that a 200 came: the whole way puts the login into a cookie."""
    assert answer.status == 200, answer.body
    return "whole" if "Set-Cookie" in answer.headers else "short"


@pytest.mark.ranks
def test_the_short_way_answers_as_the_whole_way_does(admitted):
    whole = admitted.post(INFER, BODY, Cookie="a=b")
    short = admitted.post(INFER, BODY)
    assert (went(whole), went(short)) == ("whole", "short")
    assert whole.body == short.body
    names = {name.title() for name in whole.headers} - {"Set-Cookie", "Access-Control-Allow-Origin"}
    assert names == {name.title() for name in short.headers}
    for name in names - {"Date", "X-Request-Id"}:
        assert whole.headers[name] == short.headers[name], name


@pytest.mark.ranks
@pytest.mark.parametrize(
    "headers",
    [
        {"token": None},
        {"token": "wrong"},
        {"token": TOKEN + "x"},
        {"token": TOKEN[:-1]},
        {"token": TOKEN, "Host": "evil.example"},
        {"token": None, "Authorization": f"token {TOKEN}, token wrong"},
        {"token": None, "Authorization": f"Basic {TOKEN}"},
        {"token": None, "Authorization": ""},
        {"token": None, "Authorization": TOKEN},
        {"token": None, "Cookie": f"token={TOKEN}"},
    ],
    ids=lambda headers: " ".join(f"{key}={value}" for key, value in headers.items()),
)
def test_p60_the_short_way_opens_for_nobody_else(admitted, headers):
    assert admitted.post(INFER, BODY, **headers).status == 403


@pytest.mark.ranks
def test_p60_a_cookie_without_xsrf_token_is_refused_beside_the_short_way(admitted):
    cookie = admitted.cookie_header()
    assert admitted.post(INFER, BODY, token=None, Cookie=cookie).status == 403
    evil = {"Origin": "https://evil.example", "Cookie": cookie}
    assert admitted.post(INFER, BODY, token=None, **evil).status in {403, 404}


@pytest.mark.ranks
def test_p60_on_one_connection_each_request_is_judged_by_itself(admitted):
    connection = http.client.HTTPConnection("127.0.0.1", admitted.port, timeout=30)
    statuses = []
    for given in (TOKEN, "wrong", TOKEN, "", TOKEN):
        try:
            connection.request("POST", BASE + INFER, BODY, {"Authorization": f"token {given}"})
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        except ConnectionError:  # hung up on before its body was read
            statuses.append(403)
        if statuses[-1] == 403:
            connection.close()
    connection.close()
    assert statuses == [200, 403, 200, 403, 200]


@pytest.mark.ranks
def test_p60_a_token_of_an_endpoint_takes_the_short_way_to_that_one_only(server, endpoints):
    shown = {"token": None, "Authorization": f"Bearer {token(endpoints, 'digits')}"}
    for _ in range(3):
        assert server.post(INFER, BODY, **shown).status == 200
    assert server.post("nbaas/v2/models/other/infer", BODY, **shown).status == 403
    assert server.post("nbaas/v2/models/digits/versions/2/infer", BODY, **shown).status == 404
    assert server.post("nbaas/api/endpoints/digits/undeploy", b"{}", **shown).status == 403


@pytest.mark.ranks
def test_a_token_that_is_revoked_opens_nothing_though_it_was_just_let_in(server, endpoints):
    made = create_token(endpoints, "digits", label="ann")
    shown = {"token": None, "Authorization": f"Bearer {made.value}"}
    assert [server.post(INFER, BODY, **shown).status for _ in range(3)] == [200, 200, 200]
    revoke_token(endpoints, "digits", made.id)
    deadline = time.monotonic() + 20
    while server.post(INFER, BODY, **shown).status == 200:
        assert time.monotonic() < deadline


@pytest.mark.ranks
def test_p60_an_authorizer_of_ones_own_is_asked_each_time(read_only_server):
    for _ in range(3):
        assert read_only_server.post(INFER, BODY).status == 403


@pytest.mark.ranks
def test_p60_an_identity_provider_of_ones_own_is_asked_each_time(tmp_path):
    """One that lets the token in every other time: no decision of it is ever used twice."""
    option = "--ServerApp.identity_provider_class=moody_identity.Moody"
    process, server = start_server(tmp_path, option)
    try:
        answers = [server.post(INFER, BODY).status for _ in range(6)]
        assert [status == 403 for status in answers] == [False, True] * 3
    finally:
        stop_server(process)


@pytest.mark.ranks
@pytest.mark.parametrize("body", [b"not json", b"", b'{"inputs": []}'])
def test_bad_input_on_the_short_way_has_the_gateways_reason(admitted, body):
    answer = admitted.post(INFER, body)
    assert answer.status == 400
    assert answer.json["error"]
    assert admitted.post(INFER, BODY).status == 200


@pytest.mark.ranks
def test_a_host_that_stops_under_the_short_way_is_started_by_the_next_request(admitted, endpoints):
    stop_host(endpoints)
    assert admitted.post(INFER, BODY).status == 200


def request(method="POST", uri=f"{BASE}{INFER}", **headers):
    given = {key.replace("_", "-"): value for key, value in {**FULL, **headers}.items()}
    kept = HTTPHeaders({key: value for key, value in given.items() if value is not None})
    line = RequestStartLine(method, uri, "HTTP/1.1")
    return HTTPServerRequest(start_line=line, headers=kept)


@pytest.mark.parametrize(
    "asked",
    [
        request("GET"),
        request("PUT"),
        request(uri=f"{BASE}{INFER}?token=x"),
        request(Authorization=None),
        request(Cookie="a=b"),
        request(Origin="https://evil.example"),
        request(Sec_Fetch_Site="cross-site"),
        request(Transfer_Encoding="chunked"),
        request(Expect="100-continue"),
        request(Content_Length=None),
        request(Content_Length="-1"),
        request(Content_Length="1,1"),
        request(Content_Length="٣"),
        request(Content_Length=str((1 << 20) + 1)),
        request(Content_Length="9" * 5000),
    ],
)
def test_whatever_else_could_matter_takes_the_whole_way(asked):
    assert not is_plain(asked)
    assert is_plain(request())


def test_a_decision_is_found_by_path_host_and_authorization_only():
    admitted, admission = Admitted(), Admission("ann", "/v2", "", ())
    admitted.remember(request(), admission)
    assert admitted.find(request()) is admission
    for other in (
        request(uri=f"{BASE}nbaas/v2/models/other/infer"),
        request(Host="localhost"),
        request(Authorization="token another"),
    ):
        assert admitted.find(other) is None
    assert TOKEN not in repr(vars(admitted))


def test_no_more_decisions_are_kept_than_fit():
    admitted = Admitted()
    for number in range(MOST + 10):
        admitted.remember(request(uri=f"/{number}"), Admission("ann", "/v2", "", ()))
    assert len(admitted._found) == MOST


class Own(PasswordIdentityProvider):
    pass


@pytest.mark.parametrize(
    ("provider", "authorizer", "by_endpoint_token", "alone"),
    [
        (IdentityProvider, AllowAllAuthorizer, False, True),
        (PasswordIdentityProvider, AllowAllAuthorizer, False, True),
        (Own, AllowAllAuthorizer, False, False),
        (Own, AllowAllAuthorizer, True, True),
        (PasswordIdentityProvider, ReadOnly, False, False),
        (PasswordIdentityProvider, ReadOnly, True, False),
    ],
)
def test_p60_only_jupyters_own_classes_are_taken_for_granted(
    provider, authorizer, by_endpoint_token, alone
):
    found = decides_alone(provider(), authorizer(), by_endpoint_token=by_endpoint_token)
    assert found is alone
