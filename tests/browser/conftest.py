"""A real JupyterLab with the committed panel, in Debian's Chromium."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbaas
from nbaas.config import Settings
from nbaas.deploy.hosting import stop_host

ROOT = Path(nbaas.__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "server"), str(Path(__file__).parent)]

from jupyter_process import (  # noqa: E402 - found on the path of the line above
    Server,
    Starter,
    light_python,
    start_server,
    stop_server,
)

PICTURES = ROOT / "test-output"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    return found


@pytest.fixture
def errors() -> list[str]:
    """What the page failed at; whatever is in it at the end fails the test."""
    return []


@pytest.fixture
def page(chromium: str, tmp_path: Path, errors: list[str]) -> Iterator[object]:
    """A page of a browser that has never been anywhere."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            str(tmp_path / "profile"),
            executable_path=chromium,
            args=FLAGS,
            viewport={"width": 1280, "height": 900},
        )
        context.grant_permissions(["clipboard-read", "clipboard-write"])
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("dialog", lambda dialog: (errors.append(dialog.message), dialog.dismiss()))
        yield page
        context.close()
    assert errors == []


@pytest.fixture(scope="session")
def pictures() -> Path:
    PICTURES.mkdir(exist_ok=True)
    return PICTURES


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real `jupyter lab` that shows the committed panel, and asks nothing about news."""
    root = tmp_path_factory.mktemp("lab")
    silent = root / "settings" / "@jupyterlab" / "apputils-extension"
    silent.mkdir(parents=True)
    (silent / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
    folder = {"JUPYTERLAB_SETTINGS_DIR": str(root / "settings")}
    process, server = start_server(root, program="jupyterlab", **folder)
    yield server
    stop_server(process)


@pytest.fixture
def start_job(lab: Server, tmp_path: Path) -> Iterator[Starter]:
    starter = Starter(lab.home, light_python(tmp_path))
    yield starter
    starter.clean()


@pytest.fixture(scope="session")
def trained(lab: Server) -> Iterator[Server]:
    """The lab after a notebook trained 'halves' on two real ranks and deployed it."""
    script = Path(__file__).with_name("train_and_deploy.py")
    settings = Settings(home=lab.home, cache=lab.home)
    environ = os.environ | {"NBAAS_HOME": str(lab.home), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)],
        env=environ,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield lab
    stop_host(settings)
