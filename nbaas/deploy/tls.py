"""The certificate of `nbaas serve`: checked before anything starts, read again when it is renewed."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from nbaas.errors import UsageError


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM form: the chain, leaf first, and the key."""

    cert: str
    key: str

    def context(self) -> ssl.SSLContext:
        """Return what a server needs; TLS 1.2 or newer."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.load_cert_chain(self.cert, self.key)
        return made

    def changed(self) -> float:
        """Return when the newer of both files was written; 0.0 while one is not there."""
        try:
            return max(Path(path).stat().st_mtime for path in (self.cert, self.key))
        except OSError:
            return 0.0


def checked_tls(cert: str, key: str) -> Tls | None:
    """Return the certificate, None where none is given.  Raises: UsageError: it cannot be used."""
    if not cert and not key:
        return None
    if not cert or not key:
        raise UsageError("--tls-cert and --tls-key go together", hint="both are PEM files")
    found = Tls(str(Path(cert).resolve()), str(Path(key).resolve()))
    try:
        found.context()
    except (OSError, ssl.SSLError) as wrong:
        raise UsageError(f"{cert} and {key} cannot be used: {wrong}", hint="PEM files") from wrong
    return found
