"""The environment of a rank: what the kernel may pass on, the rank's own threads and device.

Rule: an allow-list.  Tokens and keys of the notebook server stay in the notebook server.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import nbaas
from nbaas.launchers.processes import TAG
from nbaas.records import JobSpec, Slot

ALLOWED_NAMES = """
    PATH HOME USER LOGNAME SHELL LANG LANGUAGE TZ TMPDIR TEMP TMP PYTHONPATH LD_LIBRARY_PATH
    LD_PRELOAD VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV KERAS_BACKEND SSL_CERT_FILE SSL_CERT_DIR
    REQUESTS_CA_BUNDLE CURL_CA_BUNDLE HF_HOME HF_HUB_CACHE HF_HUB_OFFLINE HF_DATASETS_CACHE
    HF_ENDPOINT TRANSFORMERS_CACHE TRANSFORMERS_OFFLINE NLTK_DATA TOKENIZERS_PARALLELISM
    XDG_CACHE_HOME XDG_DATA_HOME XDG_CONFIG_HOME
"""
ALLOWED = frozenset(ALLOWED_NAMES.split())
PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "NCCL_", "HOROVOD_", "TORCH_", "PYTORCH_", "KERAS_")
SECRETS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "API_KEY", "CREDENTIAL")
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


def allowed_environment(environ: Mapping[str, str], extra: Collection[str] = ()) -> dict[str, str]:
    """Return what ranks inherit of `environ`, and the variables that the user named in `extra`."""
    return {name: value for name, value in environ.items() if name in extra or _may_pass(name)}


def _may_pass(name: str) -> bool:
    if any(word in name for word in SECRETS):
        return False
    return name in ALLOWED or name.startswith(PREFIXES)


def rank_environment(spec: JobSpec, slot: Slot, engine: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of one rank."""
    own = {name: str(slot.threads) for name in THREAD_VARIABLES}
    own |= {
        TAG: spec.id,
        "NBAAS_RANK": str(slot.rank),
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "CUDA_VISIBLE_DEVICES": _device(spec.env.get("CUDA_VISIBLE_DEVICES"), slot),
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
        # A set of strings has one order on all ranks, or loops over it would call different
        # collectives.
        "PYTHONHASHSEED": "0",
        "PYTHONUNBUFFERED": "1",
        "MPLBACKEND": "module://nbaas.bundle.figures",
        "PYTHONPATH": search_path(spec.env.get("PYTHONPATH", "")),
    }
    return {**spec.env, **own, **engine}


def _device(visible: str | None, slot: Slot) -> str:
    """Return the one device a rank sees: `cuda` and `cuda:0` are its own GPU; none on the CPU."""
    if slot.gpu is None:
        return ""
    return visible.split(",")[slot.gpu].strip() if visible else str(slot.gpu)


def search_path(given: str) -> str:
    """Return PYTHONPATH such that ranks import the same nbaas, wherever it lies."""
    home = Path(nbaas.__file__).parents[1]
    if home.name in ("site-packages", "dist-packages"):
        return given
    return f"{given}:{home}" if given else str(home)
