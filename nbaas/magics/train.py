"""`%%train` and `%train`: a cell, or a function, run on ranks with the numbers of one device."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nbaas.bundle.contents import CapturedName, CellContents
from nbaas.config import Settings, load_settings
from nbaas.errors import UsageError
from nbaas.jobs.exports import Exports
from nbaas.jobs.job import Job
from nbaas.jobs.names import checked_name
from nbaas.magics.distribution import Plan, distribution, trees_of
from nbaas.magics.epochs import epochs_in
from nbaas.magics.export import export_cell
from nbaas.magics.flags import LineParser, whole_number
from nbaas.magics.handle import JobHandle
from nbaas.magics.launches import refuse_own_ranks
from nbaas.magics.outcome import Interrupted, bring_back, raise_failure, stopped_note
from nbaas.magics.shell import CellCode, Shell
from nbaas.magics.show import show_for
from nbaas.magics.submit import Submitted, TrainOptions, captured, prepared_spec, submitted
from nbaas.magics.tables import Table, size_text
from nbaas.placement import describe
from nbaas.records import JobSpec, State
from nbaas.widgets.run import RunView
from nbaas.widgets.watch import Buttons, Watch
from nbaas.worker.every import parse_every
from nbaas.worker.loops import hidden_loops, loops_in

RETURNED = "_nbaas_returned"  # what a function gave back, on its way to the notebook


def train_parser(magic: str) -> LineParser:
    """Return the parser of `%%train`, or of `%train`, which names a function first."""
    described = {
        "%%train": "Run the cell on ranks; it computes what it computes without this line.",
        "%train": "Run a function on ranks: %train fn --ranks 2, fn called without arguments.",
    }
    parser = LineParser(magic, described[magic], epilog="Words may hold $name and {expression}.")
    add = parser.add_argument
    if magic == "%train":
        add("function", nargs="?", help="a function of the notebook")
    add("--gpus", type=whole_number, metavar="N", help="one rank on each of N GPUs")
    add("--ranks", type=whole_number, metavar="N", help="N ranks on the CPU")
    add("--hosts", default="", metavar="A:2,B:2", help="ranks on these machines, reached by ssh")
    add("--cluster", default="", metavar="NAME", help="the hosts of [clusters.NAME] in config.toml")
    add("--workdir", default="", metavar="DIR", help="folder that the cell runs in on other hosts")
    add("--name", default="", help="the job's name; made up where none is given")
    add("--engine", default="", choices=["horovod", "ddp", "serial"], help="default: the settings'")
    add("--seed", type=whole_number, help="seed of torch, numpy and random")
    add("--batch", default="global", choices=["global", "per-rank"],
        help="what a loader's batch size counts: the batch of all ranks, or of each")  # fmt: skip
    add("--background", action="store_true", help="return a handle at once")
    add("--out", "-o", default="", metavar="VAR", help="set this name to the job's handle")
    add("--tensorboard", default="", metavar="DIR", help="write event files below this directory")
    add("--mlflow", action="store_true", help="log to the MLflow server of the environment")
    add("--exclude", action="append", default=[], metavar="VAR", help="leave a name here")
    add("--checkpoint-every", default="", metavar="N|30s", type=_every,
        help="save after so many steps, or so much time: 100, 30s, 5min")  # fmt: skip
    add("--max-restarts", type=whole_number, default=0, metavar="K",
        help="start again from the last checkpoint when ranks fail, up to K times")  # fmt: skip
    add(
        "--plan",
        action="store_true",
        help="say what would be shipped and how it would be distributed; run nothing",
    )
    if magic == "%%train":
        add("--export", default="", metavar="FILE",
            help="write the cell and what it rests on as a plain script; run nothing")  # fmt: skip
    return parser


def train_cell(
    shell: Shell, options: TrainOptions, body: str, *, plan: bool = False, export: str = ""
) -> Any:
    """Run the body of a cell; returns a handle in the background, else None."""
    settings = load_settings()
    if export:
        print(export_cell(shell, shell.cell_code(body), export, options.seed))  # noqa: T201 - told
        return None
    spec = prepared_spec(settings, options, shell.origin)
    code = shell.cell_code(body)
    contents = captured(shell, code, shell.namespace, options.exclude)
    _refuse_own_ranks(spec, code.source, contents, shell.namespace)
    if plan:
        names = [item.name for item in contents.names]
        distributed = distribution(code.source, names, shell.namespace, len(spec.slots))
        return Plan(plan_table(spec, contents), distributed)
    if (spec.max_restarts or spec.checkpoint_every) and not loops_in(code.source):
        print(f"nbaas: checkpoints {places_note(code.source)}", file=sys.stderr)  # noqa: T201 - into the cell
    epochs = epochs_in(code.source, shell.namespace)
    return _run(shell, settings, options, (spec, contents), epochs)


def train_function(
    shell: Shell, options: TrainOptions, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """Call a function on ranks; returns what it returned, a handle in the background."""
    if not callable(function):
        raise UsageError(
            f"{function!r} is not a function", hint="%train fn, or %%train above a loop"
        )
    settings = load_settings()
    spec = prepared_spec(settings, options, shell.origin)
    names = {"_nbaas_function": function, "_nbaas_args": args, "_nbaas_kwargs": kwargs}
    namespace = {**shell.namespace, **names}
    source = f"{RETURNED} = _nbaas_function(*_nbaas_args, **_nbaas_kwargs)"
    contents = captured(shell, CellCode(0, source, "<%train>"), namespace, options.exclude)
    _refuse_own_ranks(spec, source, contents, namespace)
    handle = _run(shell, settings, options, (spec, contents), None)
    return handle if options.background else shell.namespace.pop(RETURNED, None)


def _refuse_own_ranks(
    spec: JobSpec, source: str, contents: CellContents, namespace: Mapping[str, Any]
) -> None:
    if len(spec.slots) > 1:
        values = {i.name: namespace[i.name] for i in contents.names if i.name in namespace}
        refuse_own_ranks(trees_of(source, values), values)


def named_function(shell: Shell, name: str | None) -> Callable[..., Any]:
    """Return the function a line names."""
    if not name:
        raise UsageError(
            "%train needs a function", hint="%train fn --ranks 2, or %%train above a cell"
        )
    found = shell.namespace.get(name)
    if found is None:
        raise UsageError(f"{name!r} is not defined in the notebook", hint="%train fn --ranks 2")
    if not callable(found):
        raise UsageError(f"{name} is a {type(found).__name__}, not a function")
    return found


def plan_table(spec: JobSpec, contents: CellContents) -> Table:
    """Return what would travel: name, kind, size, who needs it."""
    rows = [
        (item.name, item.kind, size_text(item.size), item.needed_by or "the cell")
        for item in sorted(contents.names, key=lambda item: -item.size)
    ]
    where = f"{describe(spec.slots)} ({spec.engine})"
    rows.append((f"total to {where}", "", size_text(contents.size), ""))
    rows.append(("checkpoints", "", "", places_note(contents.cell.source)))
    return Table(("name", "kind", "size", "needed by"), tuple(rows))


def places_note(source: str) -> str:
    """Return where in the cell a checkpoint can be taken, for people."""
    loops = [str(loop.line) for loop in loops_in(source)]
    hidden = [str(line) for line in hidden_loops(source)]
    inside = "inside a function, with, try or if: not resumed in the middle"
    if not loops:
        where = f"; the loop in line {', '.join(hidden)} is {inside}" if hidden else ""
        return f"between the statements of the cell only{where}"
    text = f"before each turn of the loops in line {', '.join(loops)}"
    return text + (f"; line {', '.join(hidden)}: {inside}" if hidden else "")


def _run(
    shell: Shell,
    settings: Settings,
    options: TrainOptions,
    prepared: tuple[JobSpec, CellContents],
    epochs: int | None,
) -> JobHandle | None:
    spec, contents = prepared
    _tell_before(contents, settings)
    started = submitted(settings, spec, contents)
    watch = watched(shell, started.job, epochs, options)
    if options.background:
        return _bound(shell, options, in_background(watch, started))
    _bound(shell, options, JobHandle(started.job, contents))
    in_cell(shell, watch, started)
    return None


def _bound(shell: Shell, options: TrainOptions, handle: JobHandle) -> JobHandle:
    if options.out:
        shell.bind(options.out, handle)
    return handle


def watched(
    shell: Shell, job: Job, epochs: int | None = None, options: TrainOptions | None = None
) -> Watch:
    """Return what shows `job` in the notebook or the terminal."""
    buttons = Buttons(job)
    show = show_for(has_kernel=shell.has_kernel, on_ask=buttons)
    buttons.show = show
    run = buttons.run = RunView(job.spec, describe(job.spec.slots), epochs=epochs)
    asked = options or TrainOptions()
    exports = Exports(job, tensorboard=asked.tensorboard, mlflow=asked.mlflow)
    return Watch(job, run, show, exports)


def in_cell(shell: Shell, watch: Watch, started: Submitted) -> None:
    status = watch.in_cell()
    job = started.job
    # Whatever the end was: the last complete values come back first.
    names = bring_back(job, started.contents, shell.namespace)
    raise_failure(job, status, shell.namespace)
    if status.state is State.STOPPED:
        note = stopped_note(job, status, names)
        if watch.interrupts:
            raise Interrupted(note)
        watch.show.write(note + "\n")


def in_background(watch: Watch, started: Submitted) -> JobHandle:
    watch.run.tail = True
    watch.show.open(watch.run)
    thread = threading.Thread(target=watch.in_background, name="watch", daemon=True)
    thread.start()
    return JobHandle(started.job, started.contents, thread)


_told: set[CapturedName] = set()


def _tell_before(contents: CellContents, settings: Settings) -> None:
    """Say what is worth knowing before the launch: large values, and what capture noticed."""
    large = [
        item for item in contents.names if item.size > settings.large_value and item not in _told
    ]
    # Once: what has not changed is not written again, and the user knows by then.
    _told.update(large)
    lines = [
        f"{item.name} ({item.kind}) ships {size_text(item.size)}; --exclude {item.name} leaves it here"
        for item in large
    ]
    for line in [*lines, *contents.notices]:
        print(f"nbaas: {line}", file=sys.stderr)  # noqa: T201 - into the cell


def options_from(found: Any, defaults: TrainOptions) -> TrainOptions:
    """Return the options of a parsed line; what it leaves open is taken from `defaults`."""
    if found.out:
        _checked_variable(found.out)
    given = TrainOptions(
        gpus=found.gpus,
        ranks=found.ranks,
        name=checked_name(found.name) if found.name else "",
        engine=found.engine or defaults.engine,
        seed=defaults.seed if found.seed is None else found.seed,
        batch=found.batch,
        background=found.background,
        out=found.out,
        exclude=_names(found.exclude),
        hosts=found.hosts,
        cluster=found.cluster,
        workdir=found.workdir,
        checkpoint_every=found.checkpoint_every,
        max_restarts=_not_negative(found.max_restarts),
        tensorboard=found.tensorboard,
        mlflow=found.mlflow,
    )
    if given.gpus is None and given.ranks is None and not (given.hosts or given.cluster):
        given = replace(given, gpus=defaults.gpus, ranks=defaults.ranks)
    return given


def _every(text: str) -> str:
    """Return how often to save, as typed; a mistake is told before anything starts."""
    parse_every(text)
    return text


def _names(words: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for word in words for name in word.split(",") if name)


def _not_negative(restarts: int) -> int:
    if restarts < 0:
        raise UsageError(f"--max-restarts {restarts}: less than none", hint="0 is never")
    return restarts


def _checked_variable(name: str) -> None:
    if not name.isidentifier():
        raise UsageError(f"--out {name!r} is not a name for a variable")
