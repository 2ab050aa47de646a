"""`POST .../explain` in the process of the model: a request as for /infer, with wishes in its parameters.

The answer has the form of an inference: an output for each explained input, of its shape, and `target`,
`score` and `baseline` for each row.  Rule: nothing here is imported before the first such request.
"""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np

from nbaas.deploy.answers import Encoder
from nbaas.deploy.codec import JSON_BODY, Request, decode_infer
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.deploy.plain import decode_plain
from nbaas.errors import DeployError, InputError, MissingPackageError

METHODS = ("integrated-gradients", "occlusion")  # the first where none is asked for
Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]


class Parameters(msgspec.Struct):
    """What a request may wish; other parameters are those of the protocol."""

    method: str = ""
    target: Annotated[int, msgspec.Meta(ge=-1)] = -1
    steps: int = 64
    window: list[Size] | Size = []
    input: str = ""
    output: str = ""


class _Asked(msgspec.Struct):
    parameters: Parameters = msgspec.field(default_factory=Parameters)


_ASKED = msgspec.json.Decoder(_Asked)


class Explainer:
    """Explains the answers of one version; loads the model for that where the runner has none."""

    def __init__(self, folder: Path, name: str, version: str, runner: Any) -> None:
        self.folder, self.name, self.version = folder, name, version
        self.manifest = runner.manifest
        self._loaded = getattr(runner, "loaded", None)

    def answer(self, header_length: int, body: bytes) -> tuple[int, bytes]:
        """Return header length and body of the answer.

        Raises: InputError: the request does not fit.  MissingPackageError: captum is not here.
        """
        signature = self.manifest.signature
        wish = self._wish(body if header_length == JSON_BODY else body[:header_length])
        if header_length == JSON_BODY:
            request = decode_plain(body, signature)
        else:
            request = decode_infer(body, header_length, signature)
        if importlib.util.find_spec("captum") is None:
            raise MissingPackageError(
                "captum, which explains answers, is not installed where the model runs",
                hint="pip install 'nbaas[explain]', then deploy again",
            )
        if not self.manifest.batchable:
            raise InputError("the model does not answer its rows independently of each other")
        return self._encoded(request, self._attributed(request.arrays, wish))

    def _wish(self, text: bytes) -> Any:
        if text.lstrip()[:1] == b"[":
            return _wish_of(Parameters())
        try:
            return _wish_of(_ASKED.decode(text).parameters)
        except msgspec.ValidationError as wrong:
            raise InputError(f"the parameters do not fit: {wrong}") from None
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as wrong:
            raise InputError(f"the body is not JSON: {wrong}") from None

    def _attributed(self, arrays: list[Any], wish: Any) -> Any:
        import torch

        from nbaas.deploy.attribution import attribute
        from nbaas.deploy.load import load_version

        if self._loaded is None:  # served by ONNX Runtime, which has no gradients
            torch.set_num_threads(1)
            self._loaded = load_version(self.folder)
        bf16 = [spec.datatype == "BF16" for spec in self.manifest.signature.inputs]
        inputs = [
            _tensor(a, bf16=b).to(self._loaded.device) for a, b in zip(arrays, bf16, strict=True)
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return attribute(self._loaded.model, self.manifest.signature, inputs, wish)
            except (InputError, DeployError):
                raise
            except Exception as raised:
                raise InputError(
                    f"the model cannot be explained on this input: {type(raised).__name__}: "
                    f"{str(raised).strip().partition(chr(10))[0]}",
                    hint="another method: integrated-gradients or occlusion",
                ) from raised

    def _encoded(self, request: Request, found: Any) -> tuple[int, bytes]:
        columns = {**found.parts, "target": found.target, "score": found.score,
                   "baseline": found.baseline}  # fmt: skip
        arrays = [
            np.ascontiguousarray(tensor.detach().cpu().numpy()) for tensor in columns.values()
        ]
        signature = explained_signature(self.manifest.signature, tuple(found.parts))
        request.outputs = ()
        if request.binary:
            request.binary = frozenset(spec.name for spec in signature.outputs)
        encoder = Encoder(self.name, self.version, signature)
        return encoder.encode(request, arrays)


def explained_signature(signature: Signature, parts: tuple[str, ...]) -> Signature:
    """Return the signature of an explanation of the inputs called `parts`."""
    explained = [TensorSpec(s.name, "FP32", s.shape) for s in signature.inputs if s.name in parts]
    facts = [("target", "INT64"), ("score", "FP32"), ("baseline", "FP32")]
    outputs = (*explained, *(TensorSpec(name, kind, (-1,)) for name, kind in facts))
    return Signature(signature.inputs, outputs)


def _wish_of(parameters: Parameters) -> Any:
    from nbaas.deploy.attribution import Wish

    given = {name: getattr(parameters, name) for name in parameters.__struct_fields__}
    window = given.pop("window")
    return Wish(window=(window,) if isinstance(window, int) else tuple(window), **given)


def _tensor(array: Any, *, bf16: bool) -> Any:
    import torch

    if bf16:
        return torch.from_numpy(array.view("<i2").copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(array))
