"""A bundle is whole or refused; opening it executes nothing."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nbaas.bundle import build_bundle, open_bundle, read_manifest
from nbaas.errors import BundleError

LARGE = np.arange(1 << 15)  # 256 KB


@pytest.fixture
def bundle_and_blobs(tmp_path, captured):
    contents = captured("data.sum()", {"__name__": "__main__", "data": LARGE})
    build_bundle(tmp_path / "bundle", contents, tmp_path / "blobs")
    return tmp_path / "bundle", tmp_path / "blobs"


def test_the_manifest_says_what_is_in_the_bundle(bundle_and_blobs):
    directory, blobs = bundle_and_blobs
    manifest = read_manifest(directory)
    assert [(n.name, n.kind) for n in manifest.names] == [("data", "ndarray")]
    assert manifest.names[0].size >= LARGE.nbytes
    assert manifest.cell_number == 3
    assert set(manifest.files) == {p.name for p in directory.iterdir()} - {"manifest.json"}
    assert set(manifest.blobs) == {p.name for p in blobs.iterdir()}
    assert manifest.size >= LARGE.nbytes


def test_a_bundle_opens_again_from_its_directory_alone(bundle_and_blobs):
    namespace: dict[str, object] = {}
    open_bundle(bundle_and_blobs[0]).restore(namespace)
    assert np.array_equal(namespace["data"], LARGE)


@pytest.mark.parametrize(
    "name", ["values.pkl", "values.bin", "places.json", "cell.py", "texts.json", "definitions.py"]
)
@pytest.mark.parametrize("damage", ["cut", "changed", "gone"])
def test_a_damaged_file_is_named(bundle_and_blobs, name, damage):
    path = bundle_and_blobs[0] / name
    data = path.read_bytes() or b"x"
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(data[:-1] if damage == "cut" else data[:-1] + bytes([data[-1] ^ 1]))
    if damage == "cut" and data == b"x":
        path.write_bytes(b"grown")
    with pytest.raises(BundleError, match=name):
        open_bundle(*bundle_and_blobs)


def test_a_damaged_blob_is_named(bundle_and_blobs):
    (blob,) = bundle_and_blobs[1].iterdir()
    blob.chmod(0o600)
    data = bytearray(blob.read_bytes())
    data[100] ^= 1
    blob.write_bytes(data)
    with pytest.raises(BundleError, match=blob.name[:12]):
        open_bundle(*bundle_and_blobs)
    blob.unlink()
    with pytest.raises(BundleError, match="is gone"):
        open_bundle(*bundle_and_blobs)


def test_a_bundle_without_its_manifest_is_not_one(bundle_and_blobs):
    (bundle_and_blobs[0] / "manifest.json").unlink()
    with pytest.raises(BundleError, match="no complete bundle"):
        open_bundle(*bundle_and_blobs)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("format", 99, "format 99"), ("python", "2.7", "Python 2.7"), ("files", None, "damaged")],
)
def test_a_bundle_of_another_make_is_refused(bundle_and_blobs, field, value, said):
    path = bundle_and_blobs[0] / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(BundleError, match=said):
        open_bundle(*bundle_and_blobs)


def test_a_manifest_cannot_point_out_of_the_bundle(bundle_and_blobs):
    path = bundle_and_blobs[0] / "manifest.json"
    data = json.loads(path.read_text())
    data["files"]["../../etc/passwd"] = {"size": 1, "sha256": "0"}
    path.write_text(json.dumps(data))
    with pytest.raises(BundleError, match="is missing"):
        open_bundle(*bundle_and_blobs)


def test_opening_and_listing_execute_nothing(bundle_and_blobs, tmp_path):
    class Hostile:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "executed"),)

    directory = bundle_and_blobs[0]
    (directory / "values.pkl").write_bytes(pickle.dumps(Hostile()))
    (directory / "definitions.py").write_text(
        f"import os; os.mkdir({str(tmp_path / 'executed')!r})"
    )
    read_manifest(directory)
    with pytest.raises(BundleError):
        open_bundle(*bundle_and_blobs)
    assert not (tmp_path / "executed").exists()


def test_loading_needs_no_notebook_and_no_web_server(bundle_and_blobs):
    program = (
        "import sys; from pathlib import Path; from nbaas.bundle import open_bundle\n"
        f"namespace = open_bundle(Path({str(bundle_and_blobs[0])!r})).load()\n"
        "print(int(namespace['data'][-1]), sys.modules['__main__'].__dict__ is namespace)\n"
        "print([m for m in ('IPython', 'tornado', 'ipywidgets') if m in sys.modules])"
    )
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.splitlines() == [f"{len(LARGE) - 1} True", "[]"]
