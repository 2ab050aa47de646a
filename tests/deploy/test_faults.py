"""Endpoints under kill -9, swaps and overload: the port never refuses, no answer is wrong."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.hosting import ensure_host, read_state
from nbaas.deploy.lease import lease_path, renew
from nbaas.deploy.registry import version_folder
from nbaas.errors import BundleError, DeployError, EndpointError
from tests.deploy.conftest import SIGKILL, Endpoint, Notebook, ask, deployed, exchange, mlp

pytestmark = pytest.mark.ranks


@dataclass
class Load:
    """What clients saw: every status, failed connections, wrong answers."""

    statuses: list[int] = field(default_factory=list)
    refused: int = 0
    broken: int = 0
    wrong: int = 0
    versions: set[str] = field(default_factory=set)


async def client_loop(endpoint: Endpoint, x, answers, load: Load, stop, *, keep: bool) -> None:
    """Ask again and again until `stop` is set; `answers` holds what each version would say."""
    token, address, i = endpoint.token, endpoint.address, 0
    while not stop.is_set():
        try:
            reader, writer = await asyncio.open_connection(*address)
        except OSError:
            load.refused += 1
            continue
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while not stop.is_set():
                i = (i + 1) % len(x)
                body = json.dumps([x[i].tolist()]).encode()
                try:
                    answered = await ask(
                        reader, writer, "POST", endpoint.plain, token=token, body=body
                    )
                except (OSError, asyncio.IncompleteReadError):
                    load.broken += 1
                    raise
                load.statuses.append(answered.status)
                if answered.status == 200:
                    version = answered.headers["x-nbaas-version"]
                    load.versions.add(version)
                    got = np.array(answered.json["outputs"][0])
                    load.wrong += int(np.abs(got - answers[version][i]).max() > 1e-5)
                if not keep:
                    break
        writer.close()


async def under_load(endpoint: Endpoint, x, answers, work, clients: int = 8) -> Load:
    """Run `work(load)` in a thread while clients ask; returns what they saw."""
    load, stop = Load(), asyncio.Event()
    loops = [
        asyncio.create_task(client_loop(endpoint, x, answers, load, stop, keep=i % 2 == 0))
        for i in range(clients)
    ]
    try:
        await asyncio.to_thread(work, load)
    finally:
        stop.set()
        await asyncio.gather(*loops)
    return load


def progressed(load: Load, eventually, more: int = 40) -> None:
    """Wait until clients have been answered `more` times again."""
    before = load.statuses.count(200)
    eventually(lambda: load.statuses.count(200) >= before + more)


def test_p44_a_killed_replica_comes_back_and_no_request_fails(shared, eventually):
    model, x = mlp(seed=3), torch.randn(16, 64)
    endpoint = deployed(shared, model, "killed", x)
    answers = {"1": model(x).detach().numpy()}

    def work(load):
        for _ in range(3):
            progressed(load, eventually)
            [pid] = eventually(endpoint.replica_pids)
            os.kill(pid, SIGKILL)
            eventually(lambda pid=pid: endpoint.replica_pids() not in ([], [pid]))
        progressed(load, eventually)

    load = asyncio.run(under_load(endpoint, x, answers, work))
    assert (load.refused, load.broken, load.wrong) == (0, 0, 0)
    assert set(load.statuses) == {200}
    assert endpoint.described()["restarts"] == 3
    client.undeploy(shared, "killed")


def test_a_killed_gateway_comes_back_and_the_port_never_refuses(shared, eventually):
    model, x = mlp(seed=4), torch.randn(16, 64)
    endpoint = deployed(shared, model, "gate", x)
    answers = {"1": model(x).detach().numpy()}

    def work(load):
        for _ in range(3):
            progressed(load, eventually)
            pid = endpoint.gateway_pid()
            os.kill(pid, SIGKILL)
            eventually(lambda pid=pid: endpoint.gateway_pid() not in (0, pid))
        progressed(load, eventually)

    load = asyncio.run(under_load(endpoint, x, answers, work))
    assert (load.refused, load.wrong) == (0, 0)
    assert set(load.statuses) == {200}
    assert load.broken <= 3 * 8, "only what was in flight may break"
    client.undeploy(shared, "gate")


def test_p41_versions_change_under_load_without_a_failed_request(shared, eventually):
    models, x = [mlp(seed=seed) for seed in range(3)], torch.randn(16, 64)
    endpoint = deployed(shared, models[0], "swapped", x)
    answers = {str(i + 1): model(x).detach().numpy() for i, model in enumerate(models)}

    def work(load):
        for model in models[1:]:
            progressed(load, eventually)
            client.deploy(shared, model, name="swapped", example=x)
        progressed(load, eventually)
        client.rollback(shared, "swapped", 1)
        progressed(load, eventually)

    load = asyncio.run(under_load(endpoint, x, answers, work))
    assert (load.refused, load.broken, load.wrong) == (0, 0, 0)
    assert set(load.statuses) == {200}
    assert load.versions == {"1", "2", "3"}
    client.undeploy(shared, "swapped")


def test_p40_overload_is_refused_with_retry_after_and_then_forgotten(shared, notebook, eventually):
    notebook.run("""
import time
from torch import nn
class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.02)
        return x
""")
    options = client.Options(max_batch=1, queue=8)
    endpoint = deployed(shared, notebook["Slow"](), "flooded", torch.ones(1, 3), options=options)

    async def flood():
        where = (endpoint.address, "POST", endpoint.plain)
        token = endpoint.token
        return await asyncio.gather(
            *(exchange(*where, token=token, body=b"[[1,1,1]]") for _ in range(60))
        )

    answers = asyncio.run(flood())
    refused = [a for a in answers if a.status == 503]
    assert {a.status for a in answers} == {200, 503}
    assert refused
    assert all(int(a.headers["retry-after"]) >= 1 for a in refused)
    assert endpoint.post([[1, 1, 1]]).status == 200
    client.undeploy(shared, "flooded")


def test_a_request_without_an_answer_in_time_is_a_504(shared, notebook):
    notebook.run("""
import time, torch
from torch import nn
class Stuck(nn.Module):
    def forward(self, x):
        if bool((x > 1).any()):
            time.sleep(3)
        return x
""")
    options = client.Options(timeout=0.5)
    endpoint = deployed(shared, notebook["Stuck"](), "stuck", torch.ones(1, 3), options=options)
    answered = endpoint.post([[2, 2, 2]])
    assert (answered.status, answered.error) == (504, "no answer within 0.5 s")
    client.undeploy(shared, "stuck")


def test_a_replica_that_dies_on_a_request_refuses_it_and_serves_the_rest(
    shared, notebook, eventually
):
    notebook.run("""
import os
from torch import nn
class Poisoned(nn.Module):
    def forward(self, x):
        if bool((x < 0).any()):
            os._exit(9)
        return x
""")
    endpoint = deployed(shared, notebook["Poisoned"](), "poisoned", torch.ones(1, 3))
    answered = endpoint.post([[-1, 1, 1]])
    assert (answered.status, answered.error) == (503, "the replica ended twice on this request")
    eventually(lambda: endpoint.post([[1, 1, 1]]).status == 200)
    client.undeploy(shared, "poisoned")


def test_replicas_share_the_work_and_one_may_die(shared, eventually):
    x = torch.randn(4, 64)
    endpoint = deployed(shared, mlp(), "several", x, options=client.Options(replicas=2))
    pids = eventually(lambda: len(p := endpoint.replica_pids()) == 2 and p)
    os.kill(pids[0], SIGKILL)
    assert endpoint.post([x[0].tolist()]).status == 200
    eventually(lambda: len(endpoint.replica_pids()) == 2)
    client.undeploy(shared, "several")


# ------------------------------------------------------------------ the host itself


def test_the_host_outlives_the_process_that_deployed(alone, tmp_path):
    program = f"""
import sys, torch
sys.path.insert(0, {str(Path.cwd())!r})
from nbaas.config import Settings
from nbaas.deploy import client
from pathlib import Path
settings = Settings(home=Path({str(alone.home)!r}), cache=Path({str(alone.cache)!r}))
client.deploy(settings, torch.nn.Linear(3, 2), name="left", example=torch.ones(1, 3))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=120, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert client.predict(alone, "left", np.ones((2, 3), "f4")).shape == (2, 2)
    state = read_state(alone)
    assert os.getsid(state["pid"]) != os.getsid(0)


def test_a_killed_host_takes_its_children_along_and_the_next_one_serves_the_same(alone, eventually):
    model, x = mlp(), torch.randn(2, 64)
    endpoint = deployed(alone, model, "kept", x)
    client.deploy(alone, model, name="kept", example=x)
    address, token, pid = endpoint.address, endpoint.token, read_state(alone)["pid"]
    family = [pid, *(p.pid for p in psutil.Process(pid).children(recursive=True))]
    assert len(family) >= 4  # host, gateway, zygote, replica
    os.kill(pid, SIGKILL)
    eventually(lambda: not any(psutil.pid_exists(p) for p in family), timeout=5)
    assert [row.state for row in client.list_endpoints(alone)] == ["STOPPED"]
    with pytest.raises(EndpointError, match="no endpoint host"):
        client.gateway_address(alone)
    ensure_host(alone)
    assert endpoint.address == address
    assert endpoint.token == token
    assert np.allclose(client.predict(alone, "kept", x), model(x).detach(), atol=1e-6)
    assert endpoint.post([[0.0] * 64]).headers["x-nbaas-version"] == "2"


def test_p46_on_sigterm_what_is_in_flight_is_answered_and_everything_ends(
    alone, notebook, eventually
):
    notebook.run("""
import time
from torch import nn
class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.3)
        return x
""")
    endpoint = deployed(alone, notebook["Slow"](), "ending", torch.ones(1, 3))
    address, token = endpoint.address, endpoint.token
    pid = read_state(alone)["pid"]
    family = [pid, *(p.pid for p in psutil.Process(pid).children(recursive=True))]

    async def main():
        asked = asyncio.create_task(
            exchange(address, "POST", endpoint.plain, token=token, body=b"[[1, 1, 1]]")
        )
        await asyncio.to_thread(
            eventually, lambda: endpoint_in_flight(address, client.host_token(alone))
        )
        os.kill(pid, signal.SIGTERM)
        return await asked

    assert asyncio.run(main()).status == 200
    eventually(lambda: not any(psutil.pid_exists(p) for p in family), timeout=20)
    with pytest.raises(ConnectionRefusedError), socket.create_connection(address, timeout=5):
        pass


def endpoint_in_flight(address, host_token: str) -> bool:
    text = asyncio.run(exchange(address, "GET", "/metrics", token=host_token)).body.decode()
    return 'nbaas_in_flight{endpoint="ending",version="1"} 1.0' in text


def test_a_host_whose_home_is_removed_ends(settings, eventually):
    ensure_host(settings)
    pid = read_state(settings)["pid"]
    family = [pid, *(p.pid for p in psutil.Process(pid).children(recursive=True))]
    shutil.rmtree(settings.home)
    eventually(lambda: not any(psutil.pid_exists(p) for p in family), timeout=20)


def test_p48_endpoints_of_a_hub_outlive_its_server_by_the_lease_and_no_longer(
    alone, notebook, eventually, monkeypatch
):
    monkeypatch.setenv("JUPYTERHUB_USER", "ann")
    on_hub = replace(alone, lease=3.0)
    notebook.run("""
import time
from torch import nn
class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.05)
        return x
""")
    endpoint = deployed(alone, notebook["Slow"](), "leased", torch.ones(1, 3))
    renew(on_hub)
    address, token, pid = endpoint.address, endpoint.token, read_state(alone)["pid"]
    family = [pid, *(p.pid for p in psutil.Process(pid).children(recursive=True))]
    statuses = []

    async def asked_until_it_ends():
        """Ask on connections of our own until none is taken."""
        while True:
            try:
                where = (address, "POST", endpoint.plain)
                answered = await exchange(*where, token=token, body=b"[[1, 1, 1]]")
            except ConnectionRefusedError:
                return
            except (OSError, asyncio.IncompleteReadError):
                continue  # the door was closing
            statuses.append(answered.status)
            if len(statuses) == 20:
                renew(on_hub)  # the server is back for a moment

    asyncio.run(asyncio.wait_for(asked_until_it_ends(), 60))
    assert len(statuses) > 20
    assert set(statuses) <= {200, 503}
    eventually(lambda: not any(psutil.pid_exists(p) for p in family), timeout=20)
    monkeypatch.delenv("JUPYTERHUB_USER")
    ensure_host(alone)  # without a hub, on the same home
    assert not lease_path(alone).exists()
    assert endpoint.address == address


def test_two_starts_at_a_time_make_one_host(alone):
    program = f"""
from nbaas.config import Settings
from nbaas.deploy.hosting import ensure_host, read_state
from pathlib import Path
settings = Settings(home=Path({str(alone.home)!r}), cache=Path({str(alone.cache)!r}))
ensure_host(settings)
print(read_state(settings)["pid"])
"""
    starts = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    pids = {start.communicate(timeout=60)[0].strip() for start in starts}
    assert len(pids) == 1
    assert pids != {""}


def test_p43_a_damaged_version_is_refused_with_the_files_name(alone):
    x = torch.ones(1, 64)
    endpoint = deployed(alone, mlp(), "bits", x)
    client.deploy(alone, mlp(seed=1), name="bits", example=x)
    weights = version_folder(alone.endpoints, "bits", 1) / "model.safetensors"
    whole = bytearray(weights.read_bytes())
    whole[-5] ^= 1
    weights.write_bytes(whole)
    with pytest.raises(BundleError, match=r"model\.safetensors of 1-\w+ is damaged: SHA-256"):
        client.rollback(alone, "bits")
    assert endpoint.post([[0.0] * 64]).headers["x-nbaas-version"] == "2"
    manifest = version_folder(alone.endpoints, "bits", 1) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"torch"', '"tarch"'))
    with pytest.raises(BundleError, match=r"manifest\.json of 1-\w+ is damaged"):
        client.rollback(alone, "bits")


def test_a_version_that_is_gone_when_the_host_starts_leaves_the_other_endpoints_serving(alone):
    x = torch.ones(1, 64)
    endpoint = deployed(alone, mlp(), "whole", x)
    deployed(alone, mlp(), "lost", x)
    client.stop_host(alone)
    weights = version_folder(alone.endpoints, "lost", 1) / "model.safetensors"
    weights.unlink()
    ensure_host(alone)
    assert endpoint.post([[0.0] * 64]).status == 200
    assert endpoint.request("GET", "/v2/health/ready", token="").status == 503


def test_serve_runs_the_same_host_in_the_foreground(settings, eventually):
    program = f"""
from nbaas.config import Settings
from nbaas.deploy.client import serve
from pathlib import Path
settings = Settings(home=Path({str(settings.home)!r}), cache=Path({str(settings.cache)!r}))
raise SystemExit(serve(settings, "127.0.0.1", 0))
"""
    host = subprocess.Popen([sys.executable, "-c", program])
    try:
        eventually(lambda: read_state(settings))
        with pytest.raises(DeployError, match=r"runs already on 127\.0\.0\.1"):
            client.serve(settings)
        x = torch.ones(1, 3)
        endpoint = deployed(settings, torch.nn.Linear(3, 2), "front", x)
        assert endpoint.post([[1, 2, 3]]).status == 200
    finally:
        host.terminate()
        assert host.wait(30) == 0


def test_the_gateway_loads_neither_torch_nor_numpy(shared, digits):
    endpoint, _ = digits
    maps = Path(f"/proc/{endpoint.gateway_pid()}/maps").read_text()
    assert "libtorch" not in maps
    assert "_multiarray_umath" not in maps


def test_the_zygote_runs_one_thread_and_replicas_are_children_of_the_host(shared, digits):
    endpoint, _ = digits
    host = psutil.Process(read_state(shared)["pid"])
    zygotes = [p for p in host.children() if "nbaas.deploy.zygote" in p.cmdline()]
    replicas = set(endpoint.replica_pids())
    assert any(p.num_threads() == 1 for p in zygotes if p.pid not in replicas)
    assert replicas <= {p.pid for p in host.children()}


def test_no_secret_of_the_environment_reaches_a_replica(alone, monkeypatch):
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "canary-4711")
    endpoint = deployed(alone, mlp(), "quiet", torch.ones(1, 64))
    pid = read_state(alone)["pid"]
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        assert b"canary-4711" not in Path(f"/proc/{process.pid}/environ").read_bytes()
        assert "canary-4711" not in " ".join(process.cmdline())
        assert endpoint.token not in " ".join(process.cmdline())


def test_a_name_of_the_notebook_that_is_missing_is_said_by_the_model(shared):
    made = Notebook().run("""
from torch import nn
class Net(nn.Module):
    def forward(self, x):
        return x * factor
""")
    with pytest.raises(DeployError, match="NameError: name 'factor' is not defined"):
        client.deploy(shared, made["Net"](), name="nameless", example=torch.ones(1, 3))
