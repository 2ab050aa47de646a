"""P63: listing, inspecting, plotting and reading what somebody else made never runs any of it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nbaas.deploy.manifest import WEIGHTS, read_manifest, verify_files
from nbaas.errors import BundleError

pytestmark = pytest.mark.ranks

LOOKING = Path(__file__).with_name("looking.py")
PICKLE = b"cposix\nsystem\n(S'touch %b'\ntR."
RUNS = "import pathlib; pathlib.Path({mark!r}).touch()\n"


def writes(name, text):
    def write(folder: Path, mark: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.format(mark=mark).encode())

    return write


def pickled(name):
    return lambda folder, mark: (folder / name).write_bytes(PICKLE % mark.encode())


def symlinked(folder: Path, mark: str) -> None:
    for name in ("values.pkl", "manifest.json", "cell.py"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/etc/passwd")
    log = folder.parent / "logs" / "r0.log"
    log.unlink(missing_ok=True)
    log.symlink_to("/etc/passwd")


def zip_slip(folder: Path, mark: str) -> None:
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        for name in ("../../escaped", "/tmp/absolute", "a/b.py", "A/B.py", "a/b.py"):
            archive.writestr(name, "x")


def bomb(folder: Path, mark: str) -> None:
    with zipfile.ZipFile(folder / "values.pkl", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", b"\0" * (64 << 20))
    (folder / "manifest.json").write_text("[" * 200_000)


def pipe(folder: Path, mark: str) -> None:
    log = folder.parent / "logs" / "r0.log"
    log.unlink(missing_ok=True)
    os.mkfifo(log)


def odd_names(folder: Path, mark: str) -> None:
    (folder / os.fsdecode(b"\xff\xfe.py")).write_text(RUNS.format(mark=mark))
    (folder / "Cell.py").write_text("")
    (folder / "cell.py").write_text(RUNS.format(mark=mark))


BUNDLES = {
    "a pickle where values are": pickled("values.pkl"),
    "a pickle where the manifest is": pickled("manifest.json"),
    "sitecustomize": writes("sitecustomize.py", RUNS),
    "usercustomize": writes("usercustomize.py", RUNS),
    "a .pth file": writes("evil.pth", "import os; os.system('touch {mark}')\n"),
    "conftest": writes("conftest.py", RUNS),
    "an entry point": writes("evil.egg-info/entry_points.txt", "[nbaas]\nx = evil:run\n"),
    "a package called nbaas": writes("nbaas/__init__.py", RUNS),
    "links": symlinked,
    "an archive that leads out": zip_slip,
    "a bomb": bomb,
    "a pipe where the log is": pipe,
    "names that are none": odd_names,
}


def header(fields: dict[str, object] | bytes) -> bytes:
    text = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 64


ONE = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
MODELS = {
    "a pickle": PICKLE % b"/nonexistent/mark",
    "names that are paths": header({"../../etc/passwd": ONE}),
    "a name twice": header(b'{"a": %b, "a": %b}' % ((json.dumps(ONE).encode(),) * 2)),
    "a header without end": struct.pack("<Q", 1 << 60) + b"{",
    "tensors beyond the file": header({"a": ONE | {"shape": [1 << 40], "data_offsets": [0, 4]}}),
    "nothing": b"",
}


@pytest.fixture(scope="module")
def hostile(server, tmp_path_factory):
    """A home full of job folders and endpoint versions that nobody should open."""
    from jupyter_process import Starter, light_python

    home = tmp_path_factory.mktemp("hostile")
    starter = Starter(server.home, light_python(tmp_path_factory.mktemp("python")))
    job = starter("for n in range(1, 20): step(n, 0.001)\nprint('x')", name="evil")
    job.wait(30)
    for number, write in enumerate(BUNDLES.values()):
        copy = home / "jobs" / f"20260101-000000-{number:08x}"
        shutil.copytree(job.paths.root, copy)
        spec = json.loads((copy / "spec.json").read_text()) | {"id": copy.name}
        (copy / "spec.json").write_text(json.dumps(spec))
        write(copy / "bundle", str(home / "MARK"))
    starter.clean()
    for number, data in enumerate(MODELS.values()):
        make_endpoint(home / "endpoints" / f"m{number}", data, home / "MARK")
    return home


def make_endpoint(folder: Path, weights: bytes, mark: Path) -> None:
    """Write an endpoint of one version whose manifest agrees with its hostile files."""
    from nbaas.journal import frame

    draft = folder / "versions" / "draft"
    (draft / "source").mkdir(parents=True)
    (draft / WEIGHTS).write_bytes(weights)
    (draft / "source" / "evil.py").write_text(RUNS.format(mark=str(mark)))
    files = {
        path.relative_to(draft).as_posix(): {
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size": path.stat().st_size
        }
        for path in draft.rglob("*") if path.is_file()
    }  # fmt: skip
    spec = {"name": "x", "datatype": "FP32", "shape": [-1, 4]}
    manifest = {
        "name": folder.name, "created": 1.0, "model_class": "evil:Net", "format": 1, "files": files,
        "signature": {"inputs": [spec], "outputs": [spec], "call": "positional", "returns": "tensor"},
    }  # fmt: skip
    text = json.dumps(manifest).encode()
    (draft / "manifest.json").write_bytes(text)
    version = folder / "versions" / f"1-{hashlib.sha256(text).hexdigest()[:16]}"
    draft.rename(version)
    odd = [{"event": "current"}, {"event": "canary", "version": [], "percent": {}}]
    odd += [{"event": "token", "token": 7}, {"event": "options", "options": {"nobody": 1}}]
    events = [{"event": "current", "version": 1}, *odd]
    (folder / "events.jsonl").write_bytes(b"".join(map(frame, events)))


def test_p63_looking_at_hostile_folders_runs_nothing(hostile):
    done = subprocess.run(
        [sys.executable, str(LOOKING), str(hostile)],
        env=os.environ | {"NBAAS_HOME": str(hostile), "NBAAS_CACHE": str(hostile / "cache")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["seen"]["jobs"] == len(BUNDLES)
    assert found["seen"]["versions"] == len(MODELS)
    assert found["heard"] == []
    assert not (hostile / "MARK").exists()


def test_p63_the_hook_hears_what_it_should(tmp_path):
    """The test above can fail: code of the home that is compiled or run is heard."""
    (tmp_path / "evil.py").write_text("x = 1\n")
    (tmp_path / "jobs").mkdir()
    program = (
        f"import sys; sys.path.insert(0, {str(LOOKING.parent)!r}); import looking, os, pickle\n"
        f"looking.listen({str(tmp_path)!r})\n"
        f"exec(compile('x = 1', {str(tmp_path / 'evil.py')!r}, 'exec'))\n"
        "pickle.loads(pickle.dumps(os.getcwd)); os.system('true')\n"
        "print([line.split()[0] for line in looking.heard])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    for event in ("compile", "exec", "pickle.find_class", "os.system"):
        assert event in done.stdout


@pytest.mark.parametrize("number", range(len(MODELS)), ids=list(MODELS))
def test_p63_a_hostile_model_file_is_refused_when_it_is_loaded(hostile, number):
    """Its manifest agrees with it: whoever made the file made that too."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = next((hostile / "endpoints" / f"m{number}" / "versions").iterdir())
    verify_files(folder, read_manifest(folder))
    # A name is only a key in a table; it never becomes a path.
    with contextlib.suppress(SafetensorError):
        assert set(load_file(folder / WEIGHTS)) <= {"a", "../../etc/passwd"}
    assert not (hostile / "MARK").exists()


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "source/../../x"])
def test_p63_a_manifest_that_leads_out_of_its_folder_is_refused(hostile, tmp_path, name):
    from dataclasses import replace

    from nbaas.deploy.manifest import FileEntry

    folder = next((hostile / "endpoints" / "m0" / "versions").iterdir())
    manifest = read_manifest(folder)
    with pytest.raises(BundleError, match=r"leads out of|is missing"):
        verify_files(folder, replace(manifest, files={name: FileEntry("0" * 64, 1)}))


@pytest.mark.parametrize("name", list(BUNDLES))
def test_p63_a_hostile_bundle_is_read_or_refused_with_its_name(hostile, name):
    from nbaas.bundle.manifest import read_manifest as read_bundle

    job = f"20260101-000000-{list(BUNDLES).index(name):08x}"
    with contextlib.suppress(BundleError):
        assert read_bundle(hostile / "jobs" / job / "bundle").files is not None
    assert not (hostile / "MARK").exists()
