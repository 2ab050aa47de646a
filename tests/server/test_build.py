"""The built panel is committed; these tests fail where sources and build part ways."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

import nbaas

ROOT = Path(nbaas.__file__).parents[1]
SOURCES = ROOT / "labextension"
BUILT = ROOT / "nbaas" / "labextension"
LARGEST = 300_000  # bytes of JavaScript


def sources_hash() -> str:
    """Return what stamp.mjs computes: SHA-256 over names and contents, sorted by name."""
    files = ["package.json"]
    for folder in ("schema", "src", "style"):
        names = (path.name for path in (SOURCES / folder).iterdir())
        files += [f"{folder}/{name}" for name in names if ".test." not in name]
    front = SOURCES / "../nbaas/widgets/front"
    files += [f"../nbaas/widgets/front/{path.name}" for path in front.iterdir()]
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(f"{name}\0".encode())
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()


def read(path: Path):
    return json.loads(path.read_text())


def test_the_built_panel_is_that_of_the_sources():
    stamp = read(BUILT / "build.json")
    assert stamp["sources"] == sources_hash(), "run `jlpm build` in labextension/ and commit"


def test_the_panel_has_the_version_of_the_package():
    versions = {read(SOURCES / "package.json")["version"], read(BUILT / "package.json")["version"]}
    assert versions == {nbaas.__version__}


def test_what_is_loaded_first_is_there_and_all_of_it_is_small():
    load = read(BUILT / "package.json")["jupyterlab"]["_build"]["load"]
    assert (BUILT / load).is_file()
    scripts = list((BUILT / "static").glob("*.js"))
    assert sum(path.stat().st_size for path in scripts) <= LARGEST
    assert len([path for path in scripts if path.name.startswith("remoteEntry")]) == 1


def test_the_lock_file_names_no_host():
    assert "://" not in (SOURCES / "yarn.lock").read_text()


def test_installing_puts_panel_and_server_settings_in_place():
    project = (ROOT / "pyproject.toml").read_text()
    for source, target in [
        ("nbaas/labextension", "share/jupyter/labextensions/nbaas"),
        ("labextension/install.json", "share/jupyter/labextensions/nbaas/install.json"),
        (
            "labextension/jupyter-config/nbaas.json",
            "etc/jupyter/jupyter_server_config.d/nbaas.json",
        ),
    ]:
        assert (ROOT / source).exists()
        assert f'"{source}" = "{target}"' in project


@pytest.mark.parametrize("path", sorted((SOURCES / "src").glob("*.ts*")), ids=lambda p: p.name)
def test_no_source_writes_html(path):
    text = path.read_text()
    assert "innerHTML" not in text
    assert "dangerouslySetInnerHTML" not in text
