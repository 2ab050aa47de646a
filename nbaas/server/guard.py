"""Who may call a route: the decorator of every method, and the check that none was forgotten.

Rule: each implemented method of each handler carries `guarded`; otherwise the extension refuses to
load.  An undecorated handler is public in jupyter-server; a bare `@authorized` is worse: it keeps
the first caller's action and resource for every later one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar, cast

from jupyter_server.auth.decorator import authorized, ws_authenticated
from tornado import web

Action = Literal["read", "write"]
Method = TypeVar("Method", bound=Callable[..., Any])

RESOURCE = "nbaas"
ACTIONS: tuple[Action, ...] = ("read", "write")
_MARK = "_nbaas_action"


def guarded(action: Action) -> Callable[[Method], Method]:
    """Return a decorator: 403 unless a known user, whom the authorizer allows `action`, calls."""

    def decorate(method: Method) -> Method:
        checked = web.authenticated(authorized(action, resource=RESOURCE)(method))
        setattr(checked, _MARK, action)
        return cast("Method", checked)

    return decorate


def guarded_socket(action: Action) -> Callable[[Method], Method]:
    """Return `guarded` for the GET that opens a WebSocket: 403 there too, never a login page."""

    def decorate(method: Method) -> Method:
        checked: Any = ws_authenticated(authorized(action, resource=RESOURCE)(method))
        setattr(checked, _MARK, action)
        return cast("Method", checked)

    return decorate


def action_of(method: Callable[..., Any]) -> Action | None:
    """Return what `guarded` was given for this method; None where it is missing."""
    action = getattr(method, _MARK, None)
    return action if action in ACTIONS else None


def open_methods(handlers: Iterable[type[web.RequestHandler]]) -> list[str]:
    """Return 'GET of JobsHandler' for each implemented method without `guarded`."""
    return [
        f"{verb} of {handler.__name__}"
        for handler in handlers
        for verb in handler.SUPPORTED_METHODS
        if _implemented(handler, verb) and action_of(getattr(handler, verb.lower())) is None
    ]


def _implemented(handler: type[web.RequestHandler], verb: str) -> bool:
    method = getattr(handler, verb.lower())
    return method is not web.RequestHandler._unimplemented_method  # noqa: SLF001 - tornado's own test
