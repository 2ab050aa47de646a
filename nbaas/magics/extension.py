"""The magics as IPython sees them: registered, completed with Tab, taken away again.

Rules: loading is silent and may be repeated; a magic parses its line, calls one function and shows
our errors as one line.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, line_magic, magics_class, no_var_expand
from traitlets import Enum, Int

from nbaas.config import load_settings
from nbaas.errors import NbaasError
from nbaas.launchers import zygote
from nbaas.magics import deploy, explain, jobs, placing, resume, tokens, traffic, train
from nbaas.magics.celllog import CellLog
from nbaas.magics.completion import Completion
from nbaas.magics.failures import shown_as_one_line
from nbaas.magics.flags import HelpAsked, LineParser
from nbaas.magics.shell import Shell
from nbaas.magics.submit import TrainOptions
from nbaas.worker.log import set_recorder

PARSERS: dict[str, LineParser] = {
    "%%train": train.train_parser("%%train"),
    "%train": train.train_parser("%train"),
    "%jobs": jobs.jobs_parser(),
    "%logs": jobs.logs_parser(),
    "%stop": jobs.stop_parser(),
    "%attach": jobs.attach_parser(),
    "%resume": resume.resume_parser(),
    "%hosts": jobs.hosts_parser(),
    **deploy.parsers(),
    "%explain": explain.explain_parser(),
    "%canary": traffic.canary_parser(),
    "%tokens": tokens.tokens_parser(),
}
LOADED = "_nbaas_extension"  # where the shell keeps what `unload` takes away


def _shown(magic: Callable[..., Any]) -> Callable[..., Any]:
    """Show --help as text and our errors as one line."""

    @wraps(magic)
    def run(*args: Any, **kwargs: Any) -> Any:
        with shown_as_one_line():
            try:
                return magic(*args, **kwargs)
            except HelpAsked as asked:
                print(asked)  # noqa: T201 - into the cell, as the user asked
        return None

    return run


@magics_class
class NbaasMagics(Magics):
    """Defaults for the flags of `%%train`: `%config NbaasMagics.ranks = 2`."""

    ranks = Int(None, allow_none=True, help="--ranks where the line gives none").tag(config=True)
    gpus = Int(None, allow_none=True, help="--gpus where the line gives none").tag(config=True)
    seed = Int(None, allow_none=True, help="--seed where the line gives none").tag(config=True)
    engine = Enum(
        ["", "horovod", "ddp", "serial"], "", help="--engine where the line gives none"
    ).tag(config=True)

    @property
    def _shell(self) -> Shell:
        return Shell(self.shell)

    def _read(self, magic: str, line: str) -> Any:
        return PARSERS[magic].read(line, self._shell.namespace)

    def _defaults(self) -> TrainOptions:
        return TrainOptions(
            gpus=self.gpus, ranks=self.ranks, seed=self.seed, engine=self.engine or ""
        )

    @line_cell_magic
    @no_var_expand
    @_shown
    def train(self, line: str, cell: str | None = None) -> Any:
        found = self._read("%train" if cell is None else "%%train", line)
        options = train.options_from(found, self._defaults())
        if cell is None:
            function = train.named_function(self._shell, found.function)
            return train.train_function(self._shell, options, function)
        return train.train_cell(self._shell, options, cell, plan=found.plan, export=found.export)

    @line_magic
    @no_var_expand
    @_shown
    def jobs(self, line: str) -> Any:
        found = self._read("%jobs", line)
        if found.cost:
            return jobs.cost_table(found.limit)
        return jobs.compared(found.compare) if found.compare else jobs.job_table(found.limit)

    @line_magic
    @no_var_expand
    @_shown
    def logs(self, line: str) -> None:
        found = self._read("%logs", line)
        jobs.print_logs(found.job, found.rank, found.tail)

    @line_magic
    @no_var_expand
    @_shown
    def stop(self, line: str) -> None:
        found = self._read("%stop", line)
        print(jobs.stop_job(found.job, kill=found.kill))  # noqa: T201 - the answer, in the cell

    @line_magic
    @no_var_expand
    @_shown
    def attach(self, line: str) -> Any:
        return jobs.attach(self._shell, self._read("%attach", line).job)

    @line_magic
    @no_var_expand
    @_shown
    def resume(self, line: str) -> Any:
        found = self._read("%resume", line)
        wanted = resume.Wanted(found.job, found.ranks, found.gpus, found.background)
        return resume.resume_job(self._shell, wanted)

    @line_magic
    @no_var_expand
    @_shown
    def hosts(self, line: str) -> Any:
        checked = self._read("%hosts", line).action == "check"
        return placing.check_table(load_settings()) if checked else jobs.host_table()

    @line_magic
    @no_var_expand
    @_shown
    def deploy(self, line: str) -> Any:
        return deploy.deploy(self._shell, PARSERS["%deploy"], line)

    @line_magic
    @no_var_expand
    @_shown
    def predict(self, line: str) -> Any:
        return deploy.predict(self._shell, PARSERS["%predict"], line)

    @line_magic
    @no_var_expand
    @_shown
    def explain(self, line: str) -> Any:
        return explain.explain(self._shell, PARSERS["%explain"], line)

    @line_magic
    @no_var_expand
    @_shown
    def endpoints(self, line: str) -> Any:
        return deploy.listed(self._read("%endpoints", line))

    @line_magic
    @no_var_expand
    @_shown
    def undeploy(self, line: str) -> None:
        print(deploy.undeploy(self._read("%undeploy", line).name))  # noqa: T201 - the answer

    @line_magic
    @no_var_expand
    @_shown
    def rollback(self, line: str) -> None:
        print(deploy.rollback(self._read("%rollback", line)))  # noqa: T201 - the answer

    @line_magic
    @no_var_expand
    @_shown
    def canary(self, line: str) -> None:
        print(traffic.canary(self._read("%canary", line)))  # noqa: T201 - the answer

    @line_magic
    @no_var_expand
    @_shown
    def tokens(self, line: str) -> Any:
        told = tokens.tokens(self._read("%tokens", line))
        if not isinstance(told, str):
            return told
        print(told)  # noqa: T201 - the answer, shown once
        return None


for _name, _parser in PARSERS.items():
    _magic = getattr(NbaasMagics, _name.lstrip("%"))
    # What `%%train?` shows; the cell's form where there are two.
    if _name.startswith("%%") or "%" + _name not in PARSERS:
        _magic.__doc__ = _parser.format_help()


def load(ip: Any) -> None:
    """Register the magics and their completion; a second call changes nothing."""
    if getattr(ip, LOADED, None) is not None:
        return
    magics = NbaasMagics(ip)
    ip.register_magics(magics)
    completion = Completion(PARSERS)
    completion.install(ip)
    setattr(ip, LOADED, (magics, completion))
    set_recorder(CellLog(Shell(ip)))
    # In a thread: loading the extension must not wait for it, and may not fail because of it.
    threading.Thread(target=_warm_up, name="warm", daemon=True).start()


def _warm_up() -> None:
    """Start the process that will fork ranks with torch imported, while the user writes cells."""
    with contextlib.suppress(NbaasError, OSError):
        settings = load_settings()
        if settings.warm:
            zygote.ensure(settings)


def unload(ip: Any) -> None:
    """Take away what `load` registered; the user's own names stay as they are."""
    loaded = getattr(ip, LOADED, None)
    if loaded is None:
        return
    magics, completion = loaded
    completion.remove(ip)
    set_recorder(None)
    for kind, names in magics.magics.items():
        for name in names:
            table = ip.magics_manager.magics[kind]
            if getattr(table.get(name), "__self__", None) is magics:
                del table[name]
    setattr(ip, LOADED, None)
