"""What the host has decided about each endpoint: journals written first, records in memory after."""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path
from typing import Any

from nbaas.deploy.registry import (
    EndpointRecord,
    Token,
    apply,
    endpoint_paths,
    read_endpoint,
    read_endpoints,
    write_secret,
)
from nbaas.errors import DeployError, EndpointNotFoundError
from nbaas.journal import JournalWriter
from nbaas.records import to_json

FIRST_TOKEN = "default"  # noqa: S105 - a label


class Ledger:
    """The only writer of the endpoints' journals; `records` are those that are served."""

    def __init__(self, endpoints: Path) -> None:
        self.endpoints = endpoints
        self.records = {record.name: record for record in read_endpoints(endpoints)}
        self._journals: dict[str, JournalWriter] = {}

    def note(self, name: str, event: dict[str, Any]) -> EndpointRecord:
        """Append an event to the journal of `name`, synced, and return the record after it."""
        paths = endpoint_paths(self.endpoints, name)
        if name not in self._journals:
            self._journals[name] = JournalWriter(paths.events)
        event = {"time": time.time(), **event}
        if not self._journals[name].append(event, sync=True):
            raise DeployError(f"the journal of {name} cannot be written", hint="is the disk full?")
        record = apply(self.records.get(name) or read_endpoint(self.endpoints, name), event)
        self.records[name] = record
        return record

    def served(self, name: str) -> EndpointRecord:
        """Return the record of a served endpoint; EndpointNotFoundError names those there are."""
        if name not in self.records:
            known = ", ".join(sorted(self.records)) or "none"
            raise EndpointNotFoundError(f"there is no endpoint {name!r}", hint=f"served: {known}")
        return self.records[name]

    def remove(self, name: str) -> None:
        """Forget an endpoint and its tokens; its versions stay."""
        self.note(name, {"event": "removed"})
        del self.records[name]
        endpoint_paths(self.endpoints, name).token.unlink(missing_ok=True)

    def ensure_token(self, name: str) -> None:
        """Make the endpoint's first token; its value lies in a file of the owner's only."""
        if not any(token.label == FIRST_TOKEN for token in self.records[name].tokens):
            _, value = self.new_token(name, FIRST_TOKEN, 0.0)
            write_secret(endpoint_paths(self.endpoints, name).token, value)

    def new_token(
        self, name: str, label: str, expires: float, rate: float = 0.0
    ) -> tuple[Token, str]:
        """Return a new token and its value, which is kept nowhere; `expires` 0 is never."""
        value = secrets.token_urlsafe(32)
        token = Token(
            id=secrets.token_hex(4),
            hash=hashlib.sha256(value.encode()).hexdigest(),
            label=label,
            created=time.time(),
            expires=expires,
            rate=rate,
        )
        self.note(name, {"event": "token", "token": to_json(token)})
        return token, value

    def revoke(self, name: str, token_id: str) -> None:
        """Make a token worthless; DeployError where there is none of this id."""
        record = self.served(name)
        token = record.token_with(token_id)
        if token is None:
            known = ", ".join(t.id for t in record.tokens) or "none"
            raise DeployError(f"{name} has no token {token_id!r}", hint=f"there are: {known}")
        self.note(name, {"event": "revoked", "id": token_id})
        if token.label == FIRST_TOKEN:
            endpoint_paths(self.endpoints, name).token.unlink(missing_ok=True)
