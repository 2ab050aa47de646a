"""What is here and what is missing, each with the way out; `nbaas doctor` prints it."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from pathlib import Path

from nbaas.config import Settings
from nbaas.engines.status import Fact, engine_facts
from nbaas.jobs.leftovers import find_leftovers, mend_all
from nbaas.launchers.devices import this_host

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def examine(settings: Settings) -> list[Fact]:
    """Return every fact, needed ones first; takes well under a second and changes nothing."""
    return [
        Fact("python", ok=True, text=platform.python_version()),
        *engine_facts(settings),
        *device_facts(),
        server_fact(),
        panel_fact(),
        folder_fact("store", settings.home, "NBAAS_HOME"),
        folder_fact("cache", settings.cache, "NBAAS_CACHE"),
        browser_fact(),
    ]


def told(settings: Settings, *, fix: bool) -> tuple[list[str], bool]:
    """Return what there is to say, and whether all is well; with `fix` what crashes left is mended."""
    facts = examine(settings)
    left = find_leftovers(settings)
    mark = "mended" if fix else "left"
    failed = mend_all(left) if fix else []
    lines = [fact.line() for fact in facts]
    lines += [f"{mark:<7}  {item.kind:<18} {item.text}" for item in left]
    lines += [f"failed   {line}" for line in failed]
    if left and not fix:
        lines.append("nbaas doctor --fix mends what crashes have left")
    return lines, not failed and all(fact.ok or fact.optional for fact in facts)


def device_facts() -> list[Fact]:
    here = this_host()
    gpus = ", ".join(here.gpus) or "none: ranks run on the CPU"
    ranks = f"--gpus {len(here.gpus)}" if here.gpus else f"--ranks {here.cores}"
    return [
        Fact("cores", ok=True, text=str(here.cores)),
        Fact("GPUs", ok=True, text=gpus),
        Fact("ranks", ok=True, text=f"up to {ranks} without sharing"),
    ]


def server_fact() -> Fact:
    """Return whether a Jupyter server started here will load nbaas's routes."""
    from jupyter_core.paths import jupyter_config_path

    enabled = None
    for folder in reversed([Path(place) for place in jupyter_config_path()]):  # the first one rules
        for name in sorted((folder / "jupyter_server_config.d").glob("*.json")):
            try:
                wanted = json.loads(name.read_text())["ServerApp"]["jpserver_extensions"]
            except (OSError, ValueError, KeyError, TypeError):
                continue
            enabled = wanted.get("nbaas", enabled)
    return Fact(
        "Jupyter server",
        bool(enabled),
        "extension enabled" if enabled else "its extension nbaas is not enabled",
        hint="jupyter server extension enable nbaas",
    )


def panel_fact() -> Fact:
    from jupyter_core.paths import jupyter_path

    found = [
        place
        for place in jupyter_path("labextensions")
        if Path(place, "nbaas/package.json").is_file()
    ]
    return Fact(
        "JupyterLab panel",
        bool(found),
        "installed" if found else "the lab extension is not installed",
        hint="pip install nbaas again; jupyter labextension list shows what Lab sees",
    )


def folder_fact(name: str, folder: Path, variable: str) -> Fact:
    """Return whether files can be made in `folder`, or in the parent where it is to be made."""
    there = folder
    while not there.exists():
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as refused:
        reason = f"{folder}: {refused.strerror}"
        return Fact(name, ok=False, text=reason, hint=f"set {variable} to a folder of yours")
    if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return Fact(name, ok=False, text=f"{folder}: not yours", hint=f"set {variable}")
    free = shutil.disk_usage(there).free
    return Fact(name, ok=True, text=f"{folder}, {free / 2**30:.1f} GiB free")


def browser_fact() -> Fact:
    found = next((place for name in BROWSERS if (place := shutil.which(name))), "")
    hint = "apt-get install chromium; only the browser tests need it"
    return Fact("browser", bool(found), found or "no Chromium", hint=hint, optional=True)
