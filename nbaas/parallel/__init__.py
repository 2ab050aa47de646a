"""Single-device semantics over ranks: torch plus an engine's collectives."""
