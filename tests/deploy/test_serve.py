"""`nbaas serve` without Jupyter: the same host, TLS for those who come over the network."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.hosting import read_state
from nbaas.deploy.tls import Tls, checked_tls
from nbaas.errors import UsageError
from tests.deploy.conftest import Endpoint, deployed

pytestmark = [
    pytest.mark.ranks,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed"),
]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Tls:
    """A certificate for 127.0.0.1, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    made = Tls(str(folder / "cert.pem"), str(folder / "key.pem"))
    write_certificate(made, 1)
    return made


def write_certificate(tls: Tls, serial: int) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=here",
         "-set_serial", str(serial), "-addext", "subjectAltName=IP:127.0.0.1",
         "-keyout", tls.key, "-out", tls.cert],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip


@contextlib.contextmanager
def serving(settings, *flags: str) -> Iterator[str]:
    """Run `nbaas serve` and give the URL that it tells."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nbaas.cli", "serve", *flags],
        env=os.environ | {"NBAAS_HOME": str(settings.home), "NBAAS_CACHE": str(settings.cache)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        told = process.stdout.readline()
        yield re.fullmatch(r"serving on (\S+); Ctrl-C ends it\n", told)[1]
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def asked(port: int, tls: Tls, endpoint: Endpoint, token: str) -> tuple[int, object, int]:
    """Return status, content and the certificate's serial number of one request over TLS."""
    context = ssl.create_default_context(cafile=tls.cert)
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=context)
    connection.request(
        "POST", endpoint.plain, b'{"inputs": [[1, 2, 3]]}', {"Authorization": f"Bearer {token}"}
    )
    answered = connection.getresponse()
    serial = int(connection.sock.getpeercert()["serialNumber"], 16)
    content = json.loads(answered.read())
    connection.close()
    return answered.status, content, serial


def test_models_deployed_before_are_served_over_tls_and_a_renewed_certificate_is_used(
    settings, certificate, eventually
):
    x = torch.ones(2, 3)
    model = torch.nn.Linear(3, 2)
    endpoint = deployed(settings, model, "secure", x)
    token = endpoint.token
    client.stop_host(settings)
    flags = ("--port", "0", "--tls-cert", certificate.cert, "--tls-key", certificate.key)
    with serving(settings, *flags) as url:
        assert url.startswith("https://127.0.0.1:")
        port = int(url.rpartition(":")[2])
        eventually(lambda: endpoint.described()["state"] == "READY")
        status, content, serial = asked(port, certificate, endpoint, token)
        expected = model(torch.tensor([[1.0, 2.0, 3.0]])).detach()
        assert (status, serial) == (200, 1)
        assert torch.allclose(torch.tensor(content["outputs"]), expected, atol=1e-5)
        assert asked(port, certificate, endpoint, "wrong")[0] == 401

        # Whoever speaks plainly to that port hears nothing; the machine's own port stays plain.
        with pytest.raises((http.client.HTTPException, OSError)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2", timeout=20)
        assert client.predict(settings, "secure", x).shape == (2, 2)
        assert read_state(settings)["url"] == url

        os.kill(endpoint.gateway_pid(), signal.SIGKILL)
        eventually(lambda: asked_or_none(port, certificate, endpoint, token) == (200, 1))
        write_certificate(certificate, 2)
        eventually(lambda: asked_or_none(port, certificate, endpoint, token) == (200, 2))


def asked_or_none(port, tls, endpoint, token):
    with contextlib.suppress(OSError, http.client.HTTPException):
        status, _, serial = asked(port, tls, endpoint, token)
        return status, serial
    return None


def test_a_certificate_that_cannot_be_used_is_refused_before_anything_starts(
    settings, certificate, cli, tmp_path
):
    with pytest.raises(UsageError, match="go together"):
        checked_tls(certificate.cert, "")
    (tmp_path / "no.pem").write_text("nothing")
    with pytest.raises(UsageError, match=r"no\.pem .* cannot be used"):
        checked_tls(str(tmp_path / "no.pem"), certificate.key)
    assert checked_tls("", "") is None
    done = cli("serve", "--tls-cert", "nowhere.pem", "--tls-key", "nowhere.pem")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "nowhere.pem" in done.stderr
    assert cli("serve", "--port", "99999").returncode == 2
    assert not settings.endpoints.exists()


def test_tokens_and_canaries_from_the_shell(settings, cli):
    x = torch.ones(2, 3)
    endpoint = deployed(settings, torch.nn.Linear(3, 2), "shell", x)
    client.deploy(settings, torch.nn.Linear(3, 2), name="shell", example=x)
    try:
        value = cli("tokens", "shell", "--create", "bob", "--expires", "1h").stdout.strip()
        body = b'{"inputs": [[1, 2, 3]]}'
        assert endpoint.request("POST", endpoint.plain, body=body, token=value).status == 200
        listed = cli("tokens", "shell", "--json").stdout
        rows = [json.loads(line) for line in listed.splitlines()]
        assert value not in listed
        assert {row["label"] for row in rows} == {"default", "bob"}
        bob = next(row["id"] for row in rows if row["label"] == "bob")
        assert "is worthless now" in cli("tokens", "shell", "--revoke", bob).stdout
        assert endpoint.request("POST", endpoint.plain, body=body, token=value).status == 401
        assert "canary 1 gets 25 %" in cli("canary", "shell", "25", "--version", "1").stdout
        done = cli("canary", "shell", "150")
        assert (done.returncode, "150 is no share" in done.stderr) == (2, True)
        done = cli("tokens", "nowhere")
        assert (done.returncode, "there is no endpoint 'nowhere'" in done.stderr) == (1, True)
    finally:
        client.stop_host(settings)
