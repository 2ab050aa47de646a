"""A new version beside the current one: its share, its counts, its end; and shadows."""

from __future__ import annotations

import asyncio

import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.canaries import ENOUGH, WINDOW, Guard
from nbaas.errors import DeployError, EndpointNotFoundError, UsageError
from tests.deploy.conftest import Endpoint, ask, deployed, mlp

ROW = [0.5] * 64
RAISES = """
from torch import nn
class Brittle(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)
    def forward(self, x):
        if bool((x[:, 0] == 0.5).any()):
            raise ValueError("not this one")
        return self.layer(x)
"""


def asked(endpoint: Endpoint, times: int, **headers: str) -> list[tuple[int, str]]:
    """Ask on one connection; return status and version of each answer."""

    async def main():
        reader, writer = await asyncio.open_connection(*endpoint.address)
        body = str([ROW]).encode()
        answers = [
            await ask(
                reader, writer, "POST", endpoint.plain, token=endpoint.token, body=body, **headers
            )
            for _ in range(times)
        ]
        writer.close()
        return [(a.status, a.headers["x-nbaas-version"]) for a in answers]

    return asyncio.run(main())


def test_a_canary_is_promoted_with_its_own_counts_and_rolled_back(shared):
    x = torch.randn(2, 64)
    endpoint = deployed(shared, mlp(seed=1), "promoted", x)
    client.deploy(shared, mlp(seed=2), name="promoted", example=x, canary=30)
    versions = [version for _, version in asked(endpoint, 200)]
    assert 30 <= versions.count("2") <= 90
    status = client.endpoint_status(shared, "promoted")
    assert (status.version, status.canary.version, status.canary.percent) == (1, 2, 30)
    assert status.canary.requests == versions.count("2")
    assert status.requests == versions.count("1")
    assert (status.canary.ready, status.canary.errors) == (1, 0)

    status = client.set_canary(shared, "promoted", 100)
    assert (status.version, status.canary) == (2, None)
    assert {version for _, version in asked(endpoint, 20)} == {"2"}
    assert client.rollback(shared, "promoted").version == 1
    client.undeploy(shared, "promoted")


def test_a_canary_is_aborted_by_hand_and_by_a_rollback_which_keeps_the_current_version(shared):
    x = torch.randn(2, 64)
    endpoint = deployed(shared, mlp(seed=1), "aborted", x)
    client.deploy(shared, mlp(seed=2), name="aborted", example=x, canary=50)
    assert client.set_canary(shared, "aborted", 0).canary is None
    assert {version for _, version in asked(endpoint, 20)} == {"1"}
    with pytest.raises(DeployError, match="aborted has no canary"):
        client.set_canary(shared, "aborted", 10)
    assert client.set_canary(shared, "aborted", 20, version=2).canary.percent == 20
    made = client.rollback(shared, "aborted")
    assert (made.version, made.withdrawn) == (1, 2)
    assert client.endpoint_status(shared, "aborted").canary is None
    client.undeploy(shared, "aborted")


def test_a_canary_over_its_limit_of_errors_is_withdrawn_by_itself(shared, notebook, eventually):
    x = torch.randn(2, 64)
    endpoint = deployed(shared, mlp(seed=1), "guarded", x)
    brittle = notebook.run(RAISES)["Brittle"]()
    client.deploy(shared, brittle, name="guarded", example=x, canary=50, limit=10)
    answers = asked(endpoint, 120)
    assert {status for status, version in answers if version == "2"} == {500}
    assert {status for status, version in answers if version == "1"} == {200}
    status = eventually(
        lambda: (s := client.endpoint_status(shared, "guarded")).canary is None and s
    )
    assert "canary 2 was withdrawn: " in status.notice
    assert "over 10 %" in status.notice
    assert set(asked(endpoint, 20)) == {(200, "1")}
    client.deploy(shared, mlp(seed=3), name="guarded", example=x)
    assert client.endpoint_status(shared, "guarded").notice == ""
    client.undeploy(shared, "guarded")


def test_a_shadow_sees_every_request_and_answers_none(shared, notebook, eventually):
    x = torch.randn(2, 64)
    endpoint = deployed(shared, mlp(seed=1), "shadowed", x)
    brittle = notebook.run(RAISES)["Brittle"]()
    client.deploy(shared, brittle, name="shadowed", example=x, shadow=100)
    assert set(asked(endpoint, 30)) == {(200, "1")}
    shadow = eventually(
        lambda: (s := client.endpoint_status(shared, "shadowed").shadow).requests == 30 and s
    )
    assert shadow.errors == 30, "each was answered by an error that nobody saw"
    assert client.endpoint_status(shared, "shadowed").requests == 30
    assert client.set_canary(shared, "shadowed", 0, shadow=True).shadow is None
    client.undeploy(shared, "shadowed")


def test_the_split_outlives_the_host(alone):
    x = torch.randn(2, 64)
    endpoint = deployed(alone, mlp(seed=1), "kept", x)
    client.deploy(alone, mlp(seed=2), name="kept", example=x, canary=50, limit=5)
    client.deploy(alone, mlp(seed=3), name="kept", example=x, shadow=100)
    client.stop_host(alone)
    client.predict(alone, "kept", x)
    status = client.endpoint_status(alone, "kept")
    assert (status.canary.version, status.canary.percent, status.canary.limit) == (2, 50, 5)
    assert (status.shadow.version, status.shadow.percent) == (3, 100)
    answers = {version for _, version in asked(endpoint, 40) if version}
    assert answers <= {"1", "2"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"canary": 101}, "canary 101 is no share"),
        ({"canary": -1}, "canary -1 is no share"),
        ({"canary": 10, "shadow": 10}, "a canary or a shadow, not both"),
        ({"limit": 10}, "a limit is for canaries"),
        ({"shadow": 10, "limit": 10}, "a limit is for canaries"),
    ],
)
def test_shares_that_make_no_sense_are_refused_before_anything_is_written(settings, given, reason):
    with pytest.raises(UsageError, match=reason):
        client.deploy(settings, torch.nn.Linear(3, 2), name="x", example=torch.ones(1, 3), **given)
    assert not settings.home.exists()


def test_a_canary_of_nothing_is_refused(settings):
    with pytest.raises(EndpointNotFoundError, match="there is no endpoint 'x'"):
        client.deploy(
            settings, torch.nn.Linear(3, 2), name="x", example=torch.ones(1, 3), canary=10
        )


def test_the_guard_waits_for_enough_answers_and_forgets_what_is_long_ago():
    guard = Guard()
    assert guard.broken(0.0, ENOUGH - 1, ENOUGH - 1, 5) == ""
    assert guard.broken(1.0, ENOUGH, ENOUGH, 5) == "20 of its last 20 answers were errors, over 5 %"
    guard = Guard()
    assert guard.broken(0.0, 1000, 50, 5) == ""
    assert (
        guard.broken(WINDOW + 1, 1100, 60, 5) == "10 of its last 100 answers were errors, over 5 %"
    )
    assert guard.broken(2 * WINDOW + 2, 1200, 61, 5) == ""
    assert guard.broken(2 * WINDOW + 3, 10, 10, 5) == "", "a new gateway counts anew"
