"""Settings: one frozen value; defaults, then config.toml, then NBAAS_* variables, then flags."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from nbaas.errors import UsageError


def _data_home() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "nbaas"


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nbaas"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are kept, and the defaults of every flag; seconds and bytes."""

    home: Path  # jobs/, blobs/, endpoints/, store
    cache: Path  # engine wheels
    engine: str = "horovod"  # horovod | ddp | serial
    start_timeout: float = 120.0  # every rank must have joined by then
    stop_grace: float = 10.0  # between SIGTERM and SIGKILL
    stall_timeout: float = 300.0  # no step for so long: the stacks are written; 0 is off
    heartbeat_interval: float = 0.5
    queue: bool = True  # a job waits until this user's other jobs leave room for its ranks
    warm: bool = True  # ranks are forked from a process that has torch imported
    zygote_idle: float = 1800.0  # that process ends after so long without a request
    lease: float = 900.0  # endpoints outlive a stopped JupyterHub server by so long; 0: for ever
    large_value: int = 10 << 20  # a captured value over this is named before launch
    gpu_hour_price: float = 0.0  # what a GPU costs an hour; 0: jobs show no costs for it
    core_hour_price: float = 0.0  # what a processor core costs an hour
    kwh_price: float = 0.0  # what a kilowatt-hour costs
    currency: str = ""  # as it is written behind an amount
    host_timeout: float = 10.0  # another machine that says nothing for so long is lost
    ssh_config: str = ""  # given to ssh as -F; "" is the user's own configuration
    clusters: dict[str, Any] = field(default_factory=dict)  # name -> hosts, python, workdir, ...

    @property
    def jobs(self) -> Path:
        return self.home / "jobs"

    @property
    def blobs(self) -> Path:
        return self.home / "blobs"

    @property
    def endpoints(self) -> Path:
        return self.home / "endpoints"


def own_folder(path: Path) -> Path:
    """Return `path`; it and the parents that were missing are made for this user alone.

    `mkdir(parents=True, mode=0o700)` leaves the parents open: others could list names of endpoints.
    """
    if not path.is_dir():
        own_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
    return path


def load_settings(environ: Mapping[str, str] | None = None, **flags: Any) -> Settings:
    """Return the settings in force; `flags` of value None count as not given.

    Raises: UsageError: a variable or the file holds a name or value that does not fit.
    """
    environ = os.environ if environ is None else environ
    home = Path(environ.get("NBAAS_HOME") or _data_home())
    cache = Path(environ.get("NBAAS_CACHE") or _cache_home())
    settings = Settings(home=home, cache=cache)
    known = {field.name: type(getattr(settings, field.name)) for field in fields(settings)}
    given: dict[str, Any] = {}
    config_file = home / "config.toml"
    if config_file.is_file():
        import tomllib  # here: every supervisor imports this module and reads no file

        given |= tomllib.loads(config_file.read_text())
    for name in known:
        if value := environ.get(f"NBAAS_{name.upper()}"):
            given[name] = value
    given |= {name: value for name, value in flags.items() if value is not None}
    for name, value in given.items():
        if name not in known:
            raise UsageError(f"{name!r} is no setting", hint="known: " + ", ".join(sorted(known)))
        settings = replace(settings, **{name: _converted(name, value, known[name])})
    return settings


def _converted(name: str, value: Any, kind: Any) -> Any:
    if kind is bool and isinstance(value, str):
        value = value.lower() not in ("", "0", "false", "no", "off")
    if kind is dict and not isinstance(value, dict):
        raise UsageError(f"{name}={value!r} is not a table", hint=f"[{name}.NAME] in config.toml")
    try:
        return Path(value) if issubclass(kind, Path) else kind(value)
    except (TypeError, ValueError) as wrong:
        raise UsageError(f"{name}={value!r} is not a {kind.__name__}") from wrong
