"""A KServe `InferenceService` for an exported image, as YAML.

Pure.  Field names and limits as in KServe's CRD serving.kserve.io/v1beta1: the predictor's container
is called kserve-container, PROTOCOL_VERSION tells which protocol it speaks, and the name of the
service is a lower-case DNS label.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from nbaas.errors import UsageError

LABEL = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LONGEST_LABEL = 63
PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


def service_name(name: str) -> str:
    """Return the endpoint's name as Kubernetes allows it: lower case, letters first."""
    label = re.sub(r"[^a-z0-9-]", "-", name.lower()).strip("-")
    label = label if label[:1].isalpha() else f"model-{label}"
    return label[:LONGEST_LABEL].strip("-")


def inference_service(
    name: str, image: str, *, port: int, memory: int, cpus: int, replicas: tuple[int, int]
) -> dict[str, Any]:
    """Return the manifest: `memory` in bytes asked for, its token in the secret NAME-token.

    Raises: UsageError: `image` is no reference to an image.
    """
    if not re.fullmatch(r"[a-z0-9][a-zA-Z0-9._/:@-]*", image):
        raise UsageError(f"{image!r} is no name of an image", hint="--image registry/digits:1")
    service = service_name(name)
    ready = {"httpGet": {"path": "/v2/health/ready", "port": port}}
    live = {"httpGet": {"path": "/v2/health/live", "port": port}}
    mebibytes = max(512, -(-memory // (1 << 20)))
    container = {
        "name": "kserve-container",
        "image": image,
        "args": ["--host", "0.0.0.0", "--port", str(port)],  # noqa: S104 - inside the pod
        "env": [
            {"name": "PROTOCOL_VERSION", "value": "v2"},
            {
                "name": "NBAAS_TOKEN",
                "valueFrom": {"secretKeyRef": {"name": f"{service}-token", "key": "token"}},
            },
        ],
        "ports": [{"containerPort": port, "protocol": "TCP"}],
        "readinessProbe": {**ready, "periodSeconds": 5, "failureThreshold": 24},
        "livenessProbe": {**live, "periodSeconds": 10, "initialDelaySeconds": 15},
        "resources": {
            "requests": {"cpu": str(cpus), "memory": f"{mebibytes}Mi"},
            "limits": {"cpu": str(cpus), "memory": f"{2 * mebibytes}Mi"},
        },
        "securityContext": {"allowPrivilegeEscalation": False, "runAsNonRoot": True},
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {"name": service},
        "spec": {
            "predictor": {
                "minReplicas": replicas[0],
                "maxReplicas": replicas[1],
                "containers": [container],
            }
        },
    }


def as_yaml(value: Any) -> str:
    """Return JSON-like data as YAML; a text that could be read as something else is quoted."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, dict | list) and inner:
                yield f"{key}:"
                yield from (f"  {line}" for line in _lines(inner))
            else:
                yield f"{key}: {_scalar(inner)}"
    else:
        for inner in value:
            first, *rest = _lines(inner) if isinstance(inner, dict | list) else [_scalar(inner)]
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)


def _scalar(value: Any) -> str:
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value)
