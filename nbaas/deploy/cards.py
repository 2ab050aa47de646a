"""The card of a version that lies on the disk: what notebooks, the shell and the server ask for."""

from __future__ import annotations

from nbaas.config import Settings
from nbaas.deploy.card import Card, card_of
from nbaas.deploy.registry import read_endpoint, read_version, version_folders
from nbaas.errors import EndpointNotFoundError


def read_card(settings: Settings, name: str, version: int | None = None) -> Card:
    """Return the card of `version`, or of the one that is served; a withdrawn endpoint has cards too.

    Raises: EndpointNotFoundError: it has no version.  DeployError: not this one.
    """
    record = read_endpoint(settings.endpoints, name)
    known = version_folders(settings.endpoints, name)
    if not known:
        raise EndpointNotFoundError(f"there is no endpoint {name!r}", hint="%endpoints lists them")
    number = version or record.current or max(known)
    manifest = read_version(settings.endpoints, name, number)
    return card_of(manifest, number, current=number == record.current)
