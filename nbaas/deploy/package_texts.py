"""The texts of exported folders: Dockerfile, entry point, READMEs.  Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping

from nbaas.deploy.manifest import Signature, TensorSpec

DOCKERFILE = """\
# The version as it was served from the notebook, by the same server, as a user without rights.
FROM python:{python}-slim
RUN useradd --uid 10001 --create-home server
WORKDIR /srv
COPY requirements.txt .
RUN python -m pip install --no-cache-dir -r requirements.txt
COPY nbaas nbaas
COPY model model
COPY serve.py .
USER 10001
ENV PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
EXPOSE {port}
HEALTHCHECK --start-period=60s CMD ["python", "serve.py", "--check", "--port", "{port}"]
ENTRYPOINT ["python", "serve.py"]
CMD ["--host", "0.0.0.0", "--port", "{port}"]
"""

IGNORED = "**/__pycache__\nREADME.md\nCARD.md\n*.yaml\n"

SERVE = '''\
"""Serve {name}, version {version}: the Open Inference Protocol over HTTP; --help lists the flags."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from nbaas.deploy.standalone import main

if __name__ == "__main__":
    sys.exit(main(HERE / "model", sys.argv[1:]))
'''

SECRECY = """\
## What is in here

The weights, the source of the model's classes, one example input with its output, and `manifest.json`,
which names the training data and the metrics (`CARD.md` shows it). Whoever gets the {what} can read
all of it.
"""

LONGEST_EXAMPLE = 64  # numbers of an input that a README spells out


def image_readme(name: str, version: int, image: str, port: int, signature: Signature) -> str:
    return f"""\
# {name}, version {version}

A build context: the version as it was served from the notebook, with the same server.

```
docker build -t {image} .
docker run --rm -p {port}:{port} -e NBAAS_TOKEN="$(openssl rand -hex 24 | tee token)" {image}
```

Without Docker, in an environment that has `requirements.txt`:

```
NBAAS_TOKEN_FILE=token python serve.py --port {port}
```

{_calls(name, port, signature)}
`NBAAS_TOKEN_FILE` may name a file with the token instead (a mounted secret). `--replicas N` starts N
model processes. `/v2/health/live` and `/v2/health/ready` need no token, `/metrics` needs it.
`requirements.txt` pins what was installed when the version was exported; a GPU or CPU build of torch
of the same version will do.

{SECRECY.format(what="image")}"""


def kserve_readme(
    name: str, version: int, image: str, service: str, port: int, signature: Signature
) -> str:
    return f"""\
# {name}, version {version}, for KServe

```
docker build -t {image} . && docker push {image}
kubectl create secret generic {service}-token --from-literal=token="$(openssl rand -hex 24)"
kubectl apply -f inferenceservice.yaml
kubectl get inferenceservice {service}
```

`{image}` must be a name your cluster can pull: export with `--image registry/{service}:{version}`, or
edit `inferenceservice.yaml`. The predictor speaks the Open Inference Protocol (v2) and asks for the
token of the secret as `Authorization: Bearer ...`; memory and processors are estimates to adjust.

{_calls(name, port, signature)}
{SECRECY.format(what="image")}"""


def secret_example(service: str) -> str:
    return f"""\
# The token that callers show. Write your own and keep this file out of version control.
apiVersion: v1
kind: Secret
metadata:
  name: {service}-token
stringData:
  token: REPLACE-ME-BY-AT-LEAST-16-CHARACTERS
"""


def file_readme(
    kind: str, file: str, name: str, version: int, signature: Signature,
    versions: Mapping[str, str], difference: float,
) -> str:  # fmt: skip
    return f"""\
# {name}, version {version}: {file}

{_table(signature)}

```python
{_USES[kind].format(file=file, inputs=_inputs(signature))}
```

The example is in `golden.safetensors`: `input:NAME` and `output:NAME`. When this file was written, its
answers differed from those of the deployed version by at most {difference:.2g}, on the example and on
batches of other sizes.
Made with torch {versions.get("torch", "?")} and Python {versions.get("python", "?")}.
"""


_USES = {
    "torchscript": """\
import torch
from safetensors.torch import load_file

golden = load_file("golden.safetensors")
model = torch.jit.load("{file}")
print(model({inputs}))""",
    "torch-export": """\
import torch
from safetensors.torch import load_file

golden = load_file("golden.safetensors")
model = torch.export.load("{file}").module()
print(model({inputs}))""",
    "onnx": """\
import onnxruntime
from safetensors.numpy import load_file

golden = load_file("golden.safetensors")
session = onnxruntime.InferenceSession("{file}")
inputs = [each.name for each in session.get_inputs()]
print(session.run(None, dict(zip(inputs, [{inputs}]))))""",
}


def _inputs(signature: Signature) -> str:
    return ", ".join(f"golden[{json.dumps(f'input:{spec.name}')}]" for spec in signature.inputs)


def _table(signature: Signature) -> str:
    lines = ["| | name | type | shape |", "|---|---|---|---|"]
    for what, specs in (("input", signature.inputs), ("output", signature.outputs)):
        lines += [f"| {what} | `{s.name}` | {s.datatype} | {_shape(s)} |" for s in specs]
    return "\n".join(lines)


def _shape(spec: TensorSpec) -> str:
    return " x ".join("any" if size == -1 else str(size) for size in spec.shape) or "one number"


def _calls(name: str, port: int, signature: Signature) -> str:
    body = {"inputs": [_example(spec) for spec in signature.inputs]}
    return f"""\
{_table(signature)}

```
curl -H "Authorization: Bearer $(cat token)" http://localhost:{port}/v2/models/{name}
curl -H "Authorization: Bearer $(cat token)" -d @body.json http://localhost:{port}/v2/models/{name}/infer
```

`body.json`: `{json.dumps(body)}`
"""


def _example(spec: TensorSpec) -> dict[str, object]:
    """Return one row of an input, its numbers left to the reader where they are many."""
    shape = [1 if size == -1 else size for size in spec.shape]
    count = 1
    for size in shape:
        count *= size
    data: list[object] = [0] * count if count <= LONGEST_EXAMPLE else [0, "..."]
    return {"name": spec.name, "shape": shape, "datatype": spec.datatype, "data": data}
