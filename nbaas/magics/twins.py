"""The magics as functions: `nbaas.train(fn, ranks=2)`, `nbaas.deploy(model, name="digits")`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nbaas.config import load_settings
from nbaas.deploy import client
from nbaas.deploy.registry import Options
from nbaas.deploy.subscription import predict_stream
from nbaas.errors import UsageError
from nbaas.magics.deploy import Deployed, published
from nbaas.magics.explain import Explanation, Words, explained
from nbaas.magics.failures import shown_as_one_line
from nbaas.magics.files import predicted_file
from nbaas.magics.handle import JobHandle
from nbaas.magics.jobs import attach as attach_to
from nbaas.magics.resume import Wanted, resume_job
from nbaas.magics.shell import Shell
from nbaas.magics.submit import TrainOptions
from nbaas.magics.train import train_function


def train(  # noqa: PLR0913 - one keyword a flag of %train
    function: Callable[..., Any],
    *args: Any,
    ranks: int | None = None,
    gpus: int | None = None,
    name: str = "",
    engine: str = "",
    seed: int | None = None,
    batch: str = "global",
    background: bool = False,
    exclude: Sequence[str] = (),
    hosts: str = "",
    cluster: str = "",
    workdir: str = "",
    checkpoint_every: str = "",
    max_restarts: int = 0,
    tensorboard: str = "",
    mlflow: bool = False,
    **kwargs: Any,
) -> Any:
    """Call `function(*args, **kwargs)` on ranks and return what it returned.

    The flags are those of `%%train`; with `background` a handle comes back at once.
    """
    with shown_as_one_line():
        options = TrainOptions(
            *(gpus, ranks, name, engine, seed, batch, background),
            exclude=tuple(exclude),
            hosts=hosts,
            cluster=cluster,
            workdir=workdir,
            checkpoint_every=checkpoint_every,
            max_restarts=max_restarts,
            tensorboard=tensorboard,
            mlflow=mlflow,
        )
        return train_function(current_shell(), options, function, *args, **kwargs)


def resume(
    name: str | None = None,
    *,
    ranks: int | None = None,
    gpus: int | None = None,
    background: bool = False,
) -> JobHandle | None:
    """Go on with a job from its last checkpoint; with `background` a handle comes back at once."""
    with shown_as_one_line():
        return resume_job(current_shell(), Wanted(name, ranks, gpus, background))


def attach(name: str) -> JobHandle:
    """Open the panel of a job again and return its handle."""
    with shown_as_one_line():
        return attach_to(current_shell(), name)


def deploy(  # noqa: PLR0913 - one keyword a flag of %deploy
    model: Any,
    *,
    name: str,
    example: Any = None,
    replicas: int = 1,
    max_batch: int = 0,
    max_wait: float = 0.0,
    pre: Any = None,
    post: Any = None,
    engine: str = "torch",
    note: str = "",
    canary: float = 0.0,
    shadow: float = 0.0,
    limit: float = 0.0,
) -> Deployed:
    """Publish a module, or a function that calls one, as a version of the endpoint `name`.

    `pre` and `post` are functions run around it, `max_wait` is in seconds, `note` goes on its card;
    `canary`, `shadow` and `limit` are percentages, as the flags of `%deploy`.
    """
    with shown_as_one_line():
        options = Options(replicas=replicas, max_batch=max_batch, max_wait=max_wait, engine=engine)
        return published(
            model, name, example, options, pre=pre, post=post, note=note,
            shares=client.Shares(canary, shadow, limit),
        )  # fmt: skip


def predict(name: str, inputs: Any, *, stream: bool = False) -> Any:
    """Return an endpoint's answer, asked over HTTP; `inputs` may be the Path of a file of rows.

    With `stream`, an iterator over the items of a model that yields; closing it ends the stream.
    """
    with shown_as_one_line():
        if stream:
            return predict_stream(load_settings(), name, inputs)
        if isinstance(inputs, Path):
            return predicted_file(name, inputs)
        return client.predict(load_settings(), name, inputs)


def explain(  # noqa: PLR0913 - one keyword a flag of %explain
    name: str,
    inputs: Any,
    *,
    version: int | None = None,
    method: str = "",
    target: int = -1,
    steps: int = 64,
    window: Sequence[int] = (),
    image: Sequence[int] = (),
    names: Sequence[str] = (),
    tokens: Words | None = None,
    of: str = "",
) -> Explanation:
    """Return what in `inputs`, at most 16 rows, moved an endpoint's answers; it draws itself."""
    with shown_as_one_line():
        return explained(
            name, inputs, version=version, method=method, target=target, steps=steps,
            window=window, image=image, names=names, tokens=tokens, of=of,
        )  # fmt: skip


def current_shell() -> Shell:
    """Return the shell this code runs in."""
    from IPython.core.getipython import get_ipython

    ip = get_ipython()
    if ip is None:
        raise UsageError(
            "nbaas.train needs a notebook or IPython", hint="nbaas run starts a bundle"
        )
    return Shell(ip)
