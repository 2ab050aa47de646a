from __future__ import annotations

import pytest
from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from nbaas.server.app import OpenRouteError, checked
from nbaas.server.base import NbaasHandler
from nbaas.server.guard import action_of, guarded, open_methods
from nbaas.server.routes import ROUTES


class Undecorated(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    def get(self) -> None: ...


class Bare(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @web.authenticated
    @authorized
    def get(self) -> None: ...


class Public(NbaasHandler):
    SUPPORTED_METHODS = ("GET",)

    @allow_unauthenticated
    def get(self) -> None: ...


class InheritsOptions(APIHandler):
    """jupyter-server's own OPTIONS answers without a user."""

    @guarded("read")
    def get(self) -> None: ...


class Guarded(NbaasHandler):
    SUPPORTED_METHODS = ("GET", "POST")

    @guarded("read")
    def get(self) -> None: ...

    @guarded("write")
    def post(self) -> None: ...


@pytest.mark.parametrize(
    ("handler", "found"),
    [
        (Undecorated, ["GET of Undecorated"]),
        (Bare, ["GET of Bare"]),
        (Public, ["GET of Public"]),
        (InheritsOptions, ["OPTIONS of InheritsOptions"]),
        (Guarded, []),
    ],
)
def test_p61_a_method_without_guard_is_found(handler, found):
    assert open_methods([handler]) == found


def test_p61_the_extension_refuses_to_load_with_an_open_route():
    with pytest.raises(OpenRouteError, match="GET of Undecorated"):
        checked([*ROUTES, ("/nbaas/api/open", Undecorated)])


def test_p61_no_route_of_ours_is_open():
    assert checked(ROUTES) == ROUTES


def is_there(handler, verb):
    return getattr(handler, verb.lower()) is not web.RequestHandler._unimplemented_method


def test_reading_asks_for_read_and_changing_for_write():
    for _, handler in ROUTES:
        verbs = [verb for verb in handler.SUPPORTED_METHODS if is_there(handler, verb)]
        for verb in verbs:
            action = action_of(getattr(handler, verb.lower()))
            assert action == ("read" if verb == "GET" else "write"), (handler, verb)
