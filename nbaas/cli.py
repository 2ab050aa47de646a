"""The `nbaas` command: a thin face over jobs, deploy, engines and doctor.

Rule: what a command needs is imported when it runs; an error of ours is one line on stderr, exit
code 2 for a line that is not understood, 1 for anything else.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from nbaas._version import __version__
from nbaas.config import Settings, load_settings
from nbaas.deploy.commands import add_serving_commands
from nbaas.errors import NbaasError, UsageError

if TYPE_CHECKING:
    from nbaas.jobs.job import Job

LOG_POLL = 0.2  # seconds between looks at a log that grows
EXIT_STOPPED = 75  # finished its step and ended early, as a rank says it
MINUTE, HOUR, DAY = 60, 3600, 86400  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    try:
        arguments = parse(list(sys.argv[1:] if argv is None else argv))
        code: int = arguments.run(arguments, load_settings())
        sys.stdout.flush()
        return code
    except NbaasError as error:
        print(f"nbaas: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `nbaas logs x | head`: the reader has enough.  Nothing may be flushed into the pipe again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parse(argv: list[str]) -> argparse.Namespace:
    """Return the arguments with `run`, the command's function; raises UsageError."""
    arguments, unknown = parser().parse_known_args(argv)
    if unknown:
        known = getattr(arguments, "flags", ["--help"])
        raise UsageError(f"{unknown[0]!r} is not understood", hint=near(unknown[0], known))
    return arguments


def near(word: str, known: Iterable[str]) -> str:
    """Return 'did you mean ...?', or the known words where none is near."""
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}?" if close else "known: " + ", ".join(known)


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are our errors, and that takes no abbreviations."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        wrong = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if wrong:
            known = [word.strip(" '") for word in wrong.group(2).split(",")]
            raise UsageError(f"no command {wrong.group(1)!r}", hint=near(wrong.group(1), known))
        raise UsageError(message, hint=f"{self.prog} --help")


def parser() -> Parser:
    """Return the parser of all commands; each sets `run` and, for near misses, `flags`."""
    top = Parser(prog="nbaas", description="Train and serve from a notebook cell.")
    top.add_argument("--version", action="version", version=f"nbaas {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _job_commands(commands)
    endpoints = _command(commands, "endpoints", run_endpoints, "list what is served")
    endpoints.add_argument("name", nargs="?", default="", help="the endpoint whose card is wanted")
    endpoints.add_argument("--card", action="store_true", help="its model card, as Markdown")
    endpoints.add_argument("--version", type=int, metavar="V", help="of this version")
    endpoints.add_argument("--json", action="store_true", help="one JSON object a line")
    _export_command(commands)
    add_serving_commands(commands, _command)
    hosts = _command(commands, "hosts", run_hosts, "what this machine and the configured ones have")
    hosts.add_argument("action", nargs="?", choices=["check"], help="say what each host lacks")
    hosts.add_argument("--json", action="store_true", help="one JSON object a line")
    doctor = _command(commands, "doctor", run_doctor, "what is here, what is missing, the way out")
    doctor.add_argument("--fix", action="store_true", help="mend what crashes have left behind")
    _engine_commands(commands)
    for command in commands.choices.values():
        command.set_defaults(flags=_flags(command))
    return top


def _job_commands(commands: Any) -> None:
    jobs = _command(commands, "jobs", run_jobs, "list the jobs, newest first; prune old ones")
    jobs.add_argument("action", nargs="?", choices=["prune"], help="remove jobs that are over")
    jobs.add_argument("--keep", type=int, default=100, metavar="N", help="prune: the newest N stay")
    jobs.add_argument(
        "--days", type=float, default=7.0, metavar="D", help="prune: younger ones stay"
    )
    jobs.add_argument("--dry-run", action="store_true", help="prune: only say what would go")
    jobs.add_argument("--limit", type=int, default=20, metavar="N")
    jobs.add_argument("--json", action="store_true", help="one JSON object a line")
    logs = _command(commands, "logs", run_logs, "print a rank's log")
    logs.add_argument("name", help="name or id of the job")
    logs.add_argument("--rank", type=int, default=0, metavar="R")
    logs.add_argument("--follow", action="store_true", help="until the job ends")
    metrics = _command(commands, "metrics", run_metrics, "print a rank's metrics, a line a step")
    metrics.add_argument("name", help="name or id of the job")
    metrics.add_argument("--rank", type=int, default=0, metavar="R")
    metrics.add_argument("--csv", action="store_true", help="comma-separated, with a header")
    metrics.add_argument("--json", action="store_true", help="one JSON object a line")
    metrics.add_argument("--tensorboard", metavar="DIR", default="", help="as event files")
    metrics.add_argument("--mlflow", action="store_true", help="as a run of MLflow")
    stop = _command(commands, "stop", run_stop, "finish the step, save, end")
    stop.add_argument("name", help="name or id of the job")
    stop.add_argument("--now", action="store_true", help="kill it instead")
    resume = _command(commands, "resume", run_resume, "go on from the last checkpoint")
    resume.add_argument("name", help="name or id of a job that was stopped, failed or lost")
    resume.add_argument("--ranks", type=int, metavar="N", help="on N ranks on the CPU")
    resume.add_argument("--gpus", type=int, metavar="N", help="one rank on each of N GPUs")
    resume.add_argument("--background", action="store_true", help="do not wait for its end")
    save = _command(commands, "checkpoint", run_checkpoint, "save at the end of the loop's turn")
    save.add_argument("name", help="name or id of the job")
    run = _command(commands, "run", run_run, "run a notebook's job once more, from its bundle")
    run.add_argument("bundle", help="name or id of the job, its folder, or the bundle in it")
    run.add_argument("--ranks", type=int, metavar="N", help="N ranks on the CPU")
    run.add_argument("--gpus", type=int, metavar="N", help="one rank on each of N GPUs")
    run.add_argument("--name", default="", help="of the new job; made up where none is given")
    run.add_argument("--engine", default="", choices=["horovod", "ddp", "serial"])
    run.add_argument("--seed", type=int, metavar="S")


def _command(commands: Any, name: str, run: Callable[..., int], about: str) -> Parser:
    made: Parser = commands.add_parser(name, help=about, description=about)
    made.set_defaults(run=run)
    return made


def _export_command(commands: Any) -> None:
    about = "write a deployed version for elsewhere: an image, KServe, or a model file"
    export = _command(commands, "export", run_export, about)
    export.add_argument("name", help="the endpoint")
    export.add_argument("directory", help="a new folder")
    export.add_argument("--to", required=True, metavar="FORM",
                        help="image, kserve, torchscript, onnx or torch-export")  # fmt: skip
    export.add_argument("--version", type=int, metavar="V", help="not the served one but this")
    export.add_argument("--image", default="", metavar="NAME", help="name of the image to build")


def _engine_commands(commands: Any) -> None:
    about = "Horovod for the installed torch"
    engine = commands.add_parser("engine", help=about, description=about)
    actions = engine.add_subparsers(dest="action", required=True, metavar="build|status")
    build = _command(actions, "build", run_engine_build, "build or fetch, install, prove")
    build.add_argument("--rebuild", action="store_true", help="do not use the cached wheel")
    _command(actions, "status", run_engine_status, "what there is")


def _flags(command: argparse.ArgumentParser) -> list[str]:
    return [flag for action in command._actions for flag in action.option_strings]  # noqa: SLF001


def run_engine_build(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.engines.build import build

    build(settings, lambda line: print(line, flush=True), rebuild=arguments.rebuild)
    return 0


def run_engine_status(arguments: argparse.Namespace, settings: Settings) -> int:  # noqa: ARG001
    from nbaas.engines.status import engine_facts

    facts = engine_facts(settings)
    print("\n".join(fact.line() for fact in facts))
    return 0 if all(fact.ok or fact.optional for fact in facts) else 1


def run_doctor(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.doctor import told

    lines, well = told(settings, fix=arguments.fix)
    print("\n".join(lines))
    return 0 if well else 1


def run_hosts(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.launchers.survey import every_host

    found = every_host(settings, checked=arguments.action == "check")
    rows = [{"host": line.host, "state": line.text, "mend": line.hint} for line in found]
    empty = 'no hosts yet; config.toml: [clusters.lab] hosts = ["a:2", "b:2"]'
    show(rows, as_json=arguments.json, empty=empty)
    return 0 if all(line.ok for line in found) else 1


def run_jobs(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.jobs.store import list_jobs

    if arguments.action == "prune":
        from nbaas.widgets.ending import pruned

        print(pruned(settings, arguments.keep, DAY * arguments.days, dry_run=arguments.dry_run))
        return 0

    rows = [job_row(job) for job in list_jobs(settings, arguments.limit)]
    if not arguments.json:
        now = time.time()
        rows = [row | {"created": age(now - row["created"])} for row in rows]
    show(rows, as_json=arguments.json, empty="no job yet: %%train in a notebook starts one")
    return 0


def job_row(job: Job) -> dict[str, Any]:
    status = job.status()
    failure = f"{status.failure.kind}: {status.failure.message}" if status.failure else ""
    return {
        "name": job.name,
        "state": status.state.value,
        "ranks": job.spec.world_size,
        "engine": job.spec.engine,
        "created": job.spec.created,
        "id": job.id,
        "reason": failure or status.reason,
    }


def run_logs(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.jobs.store import find_job

    job = find_job(settings, arguments.name)
    log = job.log(arguments.rank)
    while True:
        ended = job.status().state.final  # asked before reading: what follows it is nothing
        text = log.read()
        sys.stdout.write(text)
        sys.stdout.flush()
        if not text and (ended or not arguments.follow):
            return 0
        if not text:
            time.sleep(LOG_POLL)


def run_metrics(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.jobs.exports import exported
    from nbaas.jobs.series import json_records, records_of, text_records, write_csv
    from nbaas.jobs.store import find_job

    job = find_job(settings, arguments.name)
    if arguments.tensorboard or arguments.mlflow:
        print("\n".join(exported(job, arguments.tensorboard, mlflow=arguments.mlflow)))
        return 0
    records = records_of(job, arguments.rank)
    if arguments.csv:
        write_csv(records, sys.stdout)
        return 0
    shown = json_records(records) if arguments.json else text_records(records)
    show(shown, as_json=arguments.json, empty=f"{job.name} has recorded nothing yet")
    return 0


def run_stop(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.jobs.store import find_job

    job = find_job(settings, arguments.name)
    before = job.status()
    if before.state.final:
        print(f"{job.name} has ended before: {before.state.value}")
        return 0
    if arguments.now:
        job.kill()
    else:
        job.stop()
    print(f"{job.name}: {job.wait().state.value}")
    return 0


def run_run(arguments: argparse.Namespace, settings: Settings) -> int:
    """Run a bundle with rank 0's prints on stdout, the rest on stderr; returns what tells the end."""
    from nbaas.jobs.rerun import find_source, rerun
    from nbaas.launchers.devices import this_host
    from nbaas.placement import place
    from nbaas.widgets.ending import watched_to_its_end

    source = find_source(settings, arguments.bundle)
    ranks, gpus = arguments.ranks, arguments.gpus
    if ranks is None and gpus is None and source.spec is not None:
        on_gpu = source.spec.slots[0].gpu is not None
        ranks, gpus = (None, source.spec.world_size) if on_gpu else (source.spec.world_size, None)
    slots = place(this_host(), ranks=ranks, gpus=gpus)
    job = rerun(
        settings, source, slots,
        name=arguments.name, engine=arguments.engine, seed=arguments.seed,
    )  # fmt: skip
    return watched_to_its_end(job)


def run_resume(arguments: argparse.Namespace, settings: Settings) -> int:
    """Go on with a job: rank 0's prints on stdout, the rest on stderr."""
    from nbaas.launchers.devices import this_host
    from nbaas.placement import place
    from nbaas.widgets.ending import resumed

    ranks, gpus = arguments.ranks, arguments.gpus
    elsewhere = ranks is not None or gpus is not None
    slots = place(this_host(), ranks=ranks, gpus=gpus) if elsewhere else ()
    return resumed(settings, arguments.name, slots, wait=not arguments.background)


def run_checkpoint(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.jobs.store import find_job

    job = find_job(settings, arguments.name)
    job.checkpoint()
    print(f"{job.name}: asked to save at the end of the loop's turn")
    return 0


def run_endpoints(arguments: argparse.Namespace, settings: Settings) -> int:
    from nbaas.deploy.client import list_endpoints
    from nbaas.records import to_json

    if arguments.name or arguments.card:
        return print_card(arguments, settings)
    rows = [to_json(endpoint) for endpoint in list_endpoints(settings)]
    show(rows, as_json=arguments.json, empty="no endpoint yet: %deploy in a notebook makes one")
    return 0


def print_card(arguments: argparse.Namespace, settings: Settings) -> int:
    """Print the card of a version: as text to a terminal, as Markdown with --card, as JSON."""
    from nbaas.deploy.cards import read_card
    from nbaas.records import to_json

    if not arguments.name:
        raise UsageError("a card needs an endpoint", hint="nbaas endpoints digits --card")
    card = read_card(settings, arguments.name, arguments.version)
    if arguments.json:
        print(json.dumps(to_json(card)))
    else:
        print(card.markdown if arguments.card else card)
    return 0


def run_export(arguments: argparse.Namespace, settings: Settings) -> int:
    from pathlib import Path

    from nbaas.deploy.packages import export_version

    made = export_version(
        settings, arguments.name, arguments.to, Path(arguments.directory),
        version=arguments.version, image=arguments.image,
    )  # fmt: skip
    print(made)
    return 0


def show(rows: list[dict[str, Any]], *, as_json: bool, empty: str) -> None:
    """Print rows as JSON lines or as a table whose columns are the rows' keys."""
    if as_json:
        print("".join(json.dumps(row) + "\n" for row in rows), end="")
    elif not rows:
        print(empty)
    else:
        table = [
            [name.upper() for name in rows[0]],
            *([str(v) for v in row.values()] for row in rows),
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        for line in table:
            print("  ".join(map(str.ljust, line, widths)).rstrip())


def age(seconds: float) -> str:
    """Return '5 s', '12 min', '3 h' or '2 d'."""
    for unit, name in ((DAY, "d"), (HOUR, "h"), (MINUTE, "min")):
        if seconds >= unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


if __name__ == "__main__":
    sys.exit(main())
