"""Single-device semantics over ranks: torch plus an engine's collectives."""

from __future__ import annotations

from nbaas.parallel.halt import StopTraining
from nbaas.parallel.session import Observer, Session, activate

__all__ = ["Observer", "Session", "StopTraining", "activate"]
