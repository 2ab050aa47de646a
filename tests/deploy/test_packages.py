"""What is exported answers as the version did, with nothing but its folder."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nbaas.cli import main
from nbaas.deploy.kserve import as_yaml, inference_service, service_name
from nbaas.deploy.manifest import read_manifest
from nbaas.deploy.packages import export_version, requirements
from nbaas.deploy.standalone import given_token
from nbaas.errors import DeployError, EndpointNotFoundError, UsageError
from tests.deploy.conftest import deployed

TOKEN = "0123456789abcdef0123"


@contextlib.contextmanager
def serving(folder: Path, home: Path) -> Iterator[str]:
    """Run the exported entry point with only its folder; yield where it answers."""
    environ = {"PATH": os.environ["PATH"], "HOME": str(home), "NBAAS_TOKEN": TOKEN,
               "OMP_NUM_THREADS": "1", "TMPDIR": str(home)}  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(folder / "serve.py"), "--port", "0"],
        env=environ, cwd=home, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"on (http://[\d.:]+)/v2/models", line)
        assert found, line
        yield found[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def asked(url: str, body: object = None, token: str = TOKEN) -> tuple[int, dict]:
    request = urllib.request.Request(
        url, None if body is None else json.dumps(body).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
    )  # fmt: skip
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read() or b"{}")


def until_ready(url: str) -> None:
    deadline = time.monotonic() + 60
    while asked(f"{url}/v2/health/ready")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_image_serves_the_version_with_only_its_folder(digits, tmp_path):
    endpoint, model = digits
    made = export_version(endpoint.settings, "digits", "image", tmp_path / "out")
    texts = {"Dockerfile", "README.md", "CARD.md", "requirements.txt", "serve.py"}
    assert set(made.files) == texts | {"model", "nbaas"}
    assert not list((tmp_path / "out").rglob("*.pyc"))
    home = tmp_path / "home"
    home.mkdir()
    x = torch.randn(3, 64)
    with serving(tmp_path / "out", home) as url:
        until_ready(url)
        entry = {"name": "x", "shape": [3, 64], "datatype": "FP32", "data": x.flatten().tolist()}
        status, answer = asked(f"{url}/v2/models/digits/infer", {"inputs": [entry]})
        assert (status, answer["model_version"]) == (200, "1")
        got = np.array(answer["outputs"][0]["data"]).reshape(3, 10)
        assert np.abs(got - model(x).detach().numpy()).max() <= 1e-5
        assert asked(f"{url}/v2/models/digits", token="x" * 20)[0] == 401
        # The processes run the copied package, not the one the tests import.
        pids = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit()]
        lines = [_environ(pid) for pid in pids]
        assert any(f"PYTHONPATH={tmp_path / 'out'}" in line for line in lines)
        assert not any(
            TOKEN in line for line in lines if "deploy" in line and "serve.py" not in line
        )


def _environ(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
        return command + Path(f"/proc/{pid}/environ").read_text()
    except OSError:
        return ""


def test_requirements_are_pinned_and_name_what_serving_needs(digits):
    endpoint, _ = digits
    folder = next((endpoint.settings.endpoints / "digits" / "versions").iterdir())
    pins = requirements(read_manifest(folder))
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", pin) for pin in pins), pins
    assert {"torch", "numpy", "safetensors", "msgspec", "httptools"} <= {
        p.partition("==")[0] for p in pins
    }


@pytest.mark.parametrize(
    ("kind", "file"),
    [("torchscript", "model.pt"), ("torch-export", "model.pt2"), ("onnx", "model.onnx")],
)
def test_a_model_file_answers_as_the_readme_says_with_no_nbaas(digits, tmp_path, kind, file):
    if kind == "onnx" and not all(
        map(importlib.util.find_spec, ("onnx", "onnxscript", "onnxruntime"))
    ):
        pytest.skip("onnxruntime is not installed")
    endpoint, _ = digits
    made = export_version(endpoint.settings, "digits", kind, tmp_path / "out")
    assert made.difference <= 1e-5
    assert set(made.files) == {file, "README.md", "golden.safetensors", "signature.json"}
    program = re.search(r"```python\n(.*?)```", (tmp_path / "out/README.md").read_text(), re.DOTALL)
    assert program is not None
    code = (
        "import sys; sys.modules['nbaas'] = None\n"
        + program[1]
        + "import numpy\n"
        + (
            "found = session.run(None, dict(zip(inputs, [golden['input:x']])))[0]\n"
            if kind == "onnx"
            else "found = model(golden['input:x']).detach().numpy()\n"
        )
        + "numpy.save('found.npy', found)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", check=True, timeout=120,
                   capture_output=True)  # fmt: skip
    golden = load_file(tmp_path / "out" / "golden.safetensors")["output:output"]
    assert np.abs(np.load(tmp_path / "out" / "found.npy") - golden.numpy()).max() <= 1e-5


def test_a_model_that_has_no_such_form_says_why_and_leaves_nothing(shared, notebook, tmp_path):
    notebook.run("""
import torch
from torch import nn
class Rows(nn.Module):
    def forward(self, x):
        return x * 2 if float(x[0, 0]) > 0 else x * 3
""")
    deployed(shared, notebook["Rows"](), "rows", torch.ones(2, 3))
    with pytest.raises(DeployError, match="rows cannot be written as torch-export: "):
        export_version(shared, "rows", "torch-export", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_bad_wishes_are_refused_before_anything_is_written(digits, tmp_path, capsys):
    endpoint, _ = digits
    with pytest.raises(UsageError, match="'docker' is no form to export to"):
        export_version(endpoint.settings, "digits", "docker", tmp_path / "out")
    with pytest.raises(EndpointNotFoundError, match="no endpoint 'nothing'"):
        export_version(endpoint.settings, "nothing", "image", tmp_path / "out")
    with pytest.raises(DeployError, match="has no version 9"):
        export_version(endpoint.settings, "digits", "image", tmp_path / "out", version=9)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(UsageError, match="full exists already"):
        export_version(endpoint.settings, "digits", "image", tmp_path / "full")
    with pytest.raises(UsageError, match="'UPPER' is no name of an image"):
        export_version(endpoint.settings, "digits", "kserve", tmp_path / "out", image="UPPER")
    assert [path.name for path in tmp_path.iterdir()] == ["full"]
    assert main(["export", "digits", str(tmp_path / "out")]) == 2
    assert "--to" in capsys.readouterr().err


def test_a_kserve_folder_holds_a_manifest_that_fits_the_schema(digits, tmp_path):
    yaml = pytest.importorskip("yaml")
    endpoint, _ = digits
    image = "registry.example:5000/team/digits:1"
    made = export_version(endpoint.settings, "digits", "kserve", tmp_path / "out", image=image)
    assert {"Dockerfile", "inferenceservice.yaml", "secret.example.yaml", "model"} <= set(
        made.files
    )
    manifest = yaml.safe_load((tmp_path / "out" / "inferenceservice.yaml").read_text())
    check_inference_service(manifest)
    [container] = manifest["spec"]["predictor"]["containers"]
    assert container["image"] == image
    secret = yaml.safe_load((tmp_path / "out" / "secret.example.yaml").read_text())
    wanted = container["env"][1]["valueFrom"]["secretKeyRef"]
    assert (secret["metadata"]["name"], list(secret["stringData"])) == (
        wanted["name"],
        [wanted["key"]],
    )


QUANTITY = re.compile(r"[0-9]+(\.[0-9]+)?([KMGT]i|[mkMGT])?")
# What the CRD serving.kserve.io/v1beta1 allows of the parts that we write: {field: check}.
PROBE = {"httpGet", "periodSeconds", "failureThreshold", "initialDelaySeconds"}
CONTAINER = {"name", "image", "args", "env", "ports", "readinessProbe", "livenessProbe", "resources",
             "securityContext"}  # fmt: skip
PREDICTOR = {"minReplicas", "maxReplicas", "containers"}


def check_inference_service(manifest: dict) -> None:
    """Fail where a manifest is none that KServe's API server would take."""
    assert set(manifest) == {"apiVersion", "kind", "metadata", "spec"}
    assert manifest["apiVersion"] == "serving.kserve.io/v1beta1"
    assert manifest["kind"] == "InferenceService"
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", manifest["metadata"]["name"])
    assert set(manifest["spec"]) == {"predictor"}
    predictor = manifest["spec"]["predictor"]
    assert set(predictor) <= PREDICTOR
    assert 0 <= predictor["minReplicas"] <= predictor["maxReplicas"]
    [container] = predictor["containers"]
    assert set(container) <= CONTAINER
    assert container["name"] == "kserve-container"
    assert all(isinstance(word, str) for word in container["args"])
    names = [each["name"] for each in container["env"]]
    assert len(set(names)) == len(names)
    for each in container["env"]:
        assert isinstance(each.get("value", ""), str)
        assert ("value" in each) != ("valueFrom" in each)
    assert {"name": "PROTOCOL_VERSION", "value": "v2"} in container["env"]
    for port in container["ports"]:
        assert set(port) == {"containerPort", "protocol"}
        assert 0 < port["containerPort"] < 65536
    for probe in ("readinessProbe", "livenessProbe"):
        assert set(container[probe]) <= PROBE
        get = container[probe]["httpGet"]
        assert (get["path"][0], get["port"]) == ("/", container["ports"][0]["containerPort"])
    for sizes in container["resources"].values():
        assert all(isinstance(q, str) and QUANTITY.fullmatch(q) for q in sizes.values()), sizes


@pytest.mark.parametrize(
    ("name", "service"),
    [("digits", "digits"), ("My_Model", "my-model"), ("3d", "model-3d"), ("a" * 70, "a" * 63),
     ("x--", "x")],
)  # fmt: skip
def test_a_service_has_a_name_that_kubernetes_takes(name, service):
    assert service_name(name) == service
    check_inference_service(
        inference_service(name, "a/b:1", port=1, memory=1, cpus=1, replicas=(1, 1))
    )


def test_yaml_keeps_every_value_what_it_was():
    yaml = pytest.importorskip("yaml")
    value = {"a": ["on", "1", 1, None, True, {"b": {}, "c": [[1, 2], {"d": "x: #y"}]}], "é": "-"}
    assert yaml.safe_load(as_yaml(value)) == value


def test_a_token_comes_from_a_file_or_a_variable_and_must_be_long(tmp_path):
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert given_token({"NBAAS_TOKEN_FILE": str(tmp_path / "token")}) == TOKEN
    assert given_token({"NBAAS_TOKEN": TOKEN}) == TOKEN
    assert given_token({}) == ""
    with pytest.raises(UsageError, match="has 3 characters, at least 16"):
        given_token({"NBAAS_TOKEN": "abc"})
    with pytest.raises(UsageError, match="NBAAS_TOKEN_FILE cannot be read"):
        given_token({"NBAAS_TOKEN_FILE": str(tmp_path / "none")})
