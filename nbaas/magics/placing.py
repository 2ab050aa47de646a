"""Where the ranks of a cell go: this machine, or the hosts of `--hosts` and `--cluster`.

Rule: every host is asked before anything is captured; what it lacks is an error with the mend.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nbaas.config import Settings
from nbaas.errors import HostError, UsageError
from nbaas.launchers.devices import this_host
from nbaas.launchers.facts import HostFacts, facts_here, misnamed, versions_here
from nbaas.launchers.network import names_this_host, route_to
from nbaas.launchers.survey import Surveyed, free_text, survey, verdicts
from nbaas.magics.tables import Table
from nbaas.placement import (
    HostResources,
    HostSlots,
    checked_field,
    cluster_hosts,
    configured_hosts,
    parse_hosts,
    place,
    place_on,
)
from nbaas.records import Host, Slot

if TYPE_CHECKING:
    from nbaas.magics.submit import TrainOptions

Placed = tuple[tuple[Slot, ...], tuple[Host, ...]]


def placed(settings: Settings, options: TrainOptions) -> Placed:
    """Return (slots, the other machines among their hosts); asks those what they have."""
    entries = _asked_for(settings, options)
    if not entries:
        return place(this_host(), gpus=options.gpus, ranks=options.ranks), ()
    here = [entry for entry in entries if names_this_host(entry.host.name)]
    others = [entry for entry in entries if entry not in here]
    answers = survey([entry.host for entry in others], settings)
    facts = {answer.host.name: _fitting(answer, options, settings) for answer in answers}
    own = this_host()
    # This machine first: rank 0 and its files are where the notebook is.
    offers = [(replace(entry, host=replace(entry.host, name=own.name)), own) for entry in here[:1]]
    offers += [(entry, _resources(entry.host.name, facts[entry.host.name])) for entry in others]
    slots = place_on(offers, gpus=options.gpus, ranks=options.ranks)
    used = {slot.host for slot in slots}
    hosts = tuple(entry.host for entry in others if entry.host.name in used)
    if hosts and here and _engine(settings, options) == "horovod":
        _check_own_name(settings, facts[hosts[0].name])
    return slots, hosts


def _asked_for(settings: Settings, options: TrainOptions) -> list[HostSlots]:
    if options.hosts and options.cluster:
        raise UsageError("--hosts and --cluster together", hint="give one of the two")
    if options.workdir and not (options.hosts or options.cluster):
        raise UsageError(
            f"--workdir {options.workdir!r} is for other hosts", hint="--hosts a:2,b:2"
        )
    if options.cluster:
        entries = list(cluster_hosts(settings.clusters, options.cluster))
    elif options.hosts:
        # A host that a cluster describes is the same host when it is named alone.
        known = {entry.host.name: entry.host for entry in configured_hosts(settings.clusters)}
        entries = [_as_configured(entry, known) for entry in parse_hosts(options.hosts)]
    else:
        return []
    if options.workdir:
        workdir = checked_field("--workdir", "workdir", options.workdir)
        entries = [replace(e, host=replace(e.host, workdir=workdir)) for e in entries]
    return entries


def _as_configured(entry: HostSlots, known: dict[str, Host]) -> HostSlots:
    found = known.get(entry.host.name)
    if found is None:
        return entry
    return replace(entry, host=replace(found, user=entry.host.user or found.user))


def _engine(settings: Settings, options: TrainOptions) -> str:
    return options.engine or settings.engine


def _fitting(answer: Surveyed, options: TrainOptions, settings: Settings) -> HostFacts:
    """Return the facts of a host that fits; raises HostError with what it lacks and the mend."""
    engine = _engine(settings, options)
    for wrong, mend in answer.wrong(versions_here(), engine):
        if "clock" not in wrong:
            raise HostError(f"{answer.host.name}: {wrong}", hint=mend)
    assert answer.facts is not None  # noqa: S101 - nothing was wrong
    return answer.facts


def _check_own_name(settings: Settings, there: HostFacts) -> None:
    """Raise HostError where Horovod would not find this machine by its own name."""
    own = facts_here(settings)
    address = route_to(there.address) if there.address else own.named
    for wrong, _ in misnamed(Host(own.hostname), own, address):
        line = f"{address} {own.hostname}"
        hint = f"put {line!r} first in /etc/hosts; --engine ddp works now"
        raise HostError(f"{own.hostname}, this machine: {wrong}", hint=hint)


def _resources(name: str, facts: HostFacts) -> HostResources:
    return HostResources(name, facts.cores, facts.gpus)


NO_HOSTS = 'config.toml: [clusters.lab] hosts = ["a:2", "b:2"]'
HEADER = ("host", "cores", "GPUs", "free", "jobs", "state")


def other_rows(settings: Settings) -> list[tuple[str, ...]]:
    """Return a row for each host of config.toml, asked now."""
    hosts = [entry.host for entry in configured_hosts(settings.clusters)]
    return [_row(answer) for answer in survey(hosts, settings)]


def _row(answer: Surveyed) -> tuple[str, ...]:
    name, facts = answer.host.name, answer.facts
    wrong = answer.wrong(versions_here())
    state = wrong[0][0] if wrong else "ready"
    if facts is None:
        return (name, "", "", "", "", state)
    return (name, str(facts.cores), ", ".join(facts.gpus) or "none", free_text(facts),
            ", ".join(facts.jobs), state)  # fmt: skip


def check_table(settings: Settings) -> Table:
    """Return what each host of config.toml has, or lacks and what mends it; asked now."""
    hosts = [entry.host for entry in configured_hosts(settings.clusters)]
    found = verdicts(survey(hosts, settings), settings.engine)
    rows = tuple((verdict.host, verdict.text, verdict.hint) for verdict in found)
    return Table(("host", "state", "what mends it"), rows, empty=f"no hosts yet; {NO_HOSTS}")
