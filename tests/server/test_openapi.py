"""P62: what the OpenAPI document says is what the server does, also when it is asked nonsense."""

from __future__ import annotations

import json
import re
from collections import Counter

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nbaas.server.openapi import OPERATIONS, document
from nbaas.server.routes import CONTROL

pytestmark = pytest.mark.ranks

REQUESTS = 500  # tests/security/test_fuzz.py makes up 2,000 more, by the document
IDS = ["20260101-000000-00000000", "99999999-999999-ffffffff"]


@pytest.fixture(scope="module")
def described(server):
    answer = server.get("nbaas/api/openapi.json")
    assert answer.status == 200
    return answer.json


def test_every_control_route_is_described():
    undescribed = {r"/nbaas/api/openapi\.json", r"/nbaas/api/live"}
    fill = {"{job_id}": IDS[0], "{name}": "digits"}
    described = set()
    for operation in OPERATIONS:
        path = operation.path
        for name, value in fill.items():
            path = path.replace(name, value)
        for route, handler in CONTROL:
            if re.fullmatch(route, path):
                assert operation.method.upper() in handler.SUPPORTED_METHODS
                described.add(route)
    assert described == {route for route, _ in CONTROL} - undescribed


def test_the_document_names_the_base_url_and_is_valid(described):
    assert described["servers"] == [{"url": "/user/ann"}]
    assert described == json.loads(json.dumps(document("/user/ann/")))
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    used = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(described)))
    assert used <= described["components"]["schemas"].keys()


def check(described, operation, answer):
    """Fail unless status and body are what the document says of the operation."""
    answers = described["paths"][operation.path][operation.method]["responses"]
    assert str(answer.status) in answers, (operation.path, answer.status, answer.body[:300])
    schema = answers[str(answer.status)]["content"]["application/json"]["schema"]
    whole = {**schema, "components": described["components"]}
    jsonschema.validate(answer.json, whole, cls=jsonschema.Draft202012Validator)


def test_the_answers_about_a_real_job_are_as_described(server, start_job, described):
    job = start_job("for n in range(1, 30): step(n, 0.001)\nprint('x')\nraise ValueError('y')")
    job.wait(30)
    for operation in OPERATIONS:
        if "{name}" in operation.path:
            continue
        path = operation.path.replace("{job_id}", job.id)
        body = b"{}" if operation.method == "post" else None
        answer = server.request(operation.method.upper(), path, body)
        # There is nothing to save of a job that is over; that answer is described, too.
        status = 409 if path.endswith("/checkpoint") else operation.status
        assert answer.status == status, (path, answer.body)
        check(described, operation, answer)


TEXT = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=40
)
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70).map(str), st.floats().map(str), TEXT, st.just(""), st.just("%00")
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
BODIES = st.one_of(
    st.just(b"{}"),
    st.just(b""),
    st.binary(max_size=200),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.builds(
        lambda name, value: json.dumps({name: value}).encode(),
        st.sampled_from(["grace", "version", "visible", "x"]),
        VALUES,
    ),
    st.integers(1, 200_000).map(lambda size: b"[" * size),
)
CALLS = st.fixed_dictionaries(
    {
        "operation": st.sampled_from(OPERATIONS),
        "job_id": st.sampled_from(IDS),
        "name": st.sampled_from(["nobody", "A_b-9", "0"]),
        "query": st.dictionaries(
            st.sampled_from(["limit", "points", "rank", "start", "tail", "x"]), NUMBERS, max_size=3
        ),
        "body": BODIES,
        "kind": st.sampled_from(["application/json", "text/plain", "multipart/form-data", ""]),
    }
)


def test_p62_nonsense_is_refused_as_described_and_never_breaks_anything(server, described):
    seen: Counter[int] = Counter()

    @settings(
        max_examples=REQUESTS, deadline=None, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(CALLS)
    def ask(call):
        operation = call["operation"]
        path = operation.path.replace("{job_id}", call["job_id"]).replace("{name}", call["name"])
        if call["query"]:
            path += "?" + "&".join(f"{name}={value}" for name, value in call["query"].items())
        body = call["body"] if operation.method == "post" else None
        answer = server.request(operation.method.upper(), path, body, Content_Type=call["kind"])
        seen[answer.status] += 1
        assert answer.status < 500 or (answer.status == 503 and "endpoint" in operation.path)
        check(described, operation, answer)

    ask()
    assert sum(seen.values()) >= REQUESTS
    assert {200, 400, 404} <= seen.keys()
    assert server.get("nbaas/api/jobs").status == 200
