"""Requests on their way between a client and a replica."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from nbaas.deploy.frames import CANCEL, MORE

if TYPE_CHECKING:
    from nbaas.deploy.links import Link


class Client(Protocol):
    """What asked; `answer` is called at most once for an exchange, after the items of a stream."""

    def answer(self, exchange: Exchange, status: int, header_length: int, body: bytes) -> None: ...
    def item(self, exchange: StreamExchange, body: bytes) -> None: ...


class _Nobody:
    """Who asks for a shadow: answers are counted, and dropped."""

    def answer(self, exchange: Exchange, status: int, header_length: int, body: bytes) -> None:
        pass

    def item(self, exchange: StreamExchange, body: bytes) -> None:  # noqa: ARG002
        exchange.more(1)


NOBODY = _Nobody()


class Exchange:
    """One request on its way; `client` is None once nobody waits for the answer."""

    __slots__ = ("answer_head", "attempts", "body", "client", "flags", "header_length", "started")

    def __init__(
        self,
        client: Client,
        flags: int,
        header_length: int,
        body: bytes,
        answer_head: bytes,
        started: float,
    ) -> None:
        self.client: Client | None = client
        self.flags = flags
        self.header_length = header_length
        self.body = body
        self.answer_head = answer_head  # header lines of the version that answers
        self.started = started
        self.attempts = 0

    begun = False  # whether a part of the answer has reached the client

    def sent(self, link: Link, identity: int) -> None:
        """Note the replica that has it."""

    def silent(self, now: float) -> float:
        """Return the seconds that the client has waited."""
        return now - self.started

    def leave(self) -> None:
        """Forget the client; the answer is dropped when it comes."""
        self.client = None


class StreamExchange(Exchange):
    """A request that is answered item by item; at most `limit` of them."""

    __slots__ = ("begun", "identity", "items", "limit", "link", "moved")

    def __init__(self, limit: int, *given: Any) -> None:
        super().__init__(*given)
        self.limit = limit
        self.link: Link | None = None
        self.identity = 0
        self.items = 0
        self.begun = False
        self.moved = (
            self.started
        )  # when something last came from the replica, or went to the client

    def sent(self, link: Link, identity: int) -> None:
        self.link, self.identity = link, identity

    def silent(self, now: float) -> float:
        return now - self.moved

    def more(self, count: int) -> None:
        """Let the replica make `count` further items."""
        if self.link is not None and count:
            self.link.tell(self, MORE, count)

    def leave(self) -> None:
        """Forget the client, and let the replica close the generator."""
        self.client = None
        if self.link is not None:
            self.link.tell(self, CANCEL, 0)
