"""What a job has used: hours of GPUs and cores, energy, and money where prices are set.

Pure, but for the last rows of the ranks' journals.  Energy that no counter told is estimated from
the time that was used, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nbaas.config import Settings
from nbaas.jobs.job import Job, JobStatus
from nbaas.records import Slot
from nbaas.worker.metrics import newest_values

HOUR = 3600.0  # seconds
KILOWATT_HOUR = 3.6e6  # joules
# Estimates: a busy server core with its share of the package, and an accelerator under load.
WATTS_OF_A_CORE = 10.0
WATTS_OF_A_GPU = 300.0


@dataclass(frozen=True, slots=True)
class Prices:
    """What is paid; 0 where nothing is."""

    gpu_hour: float = 0.0
    core_hour: float = 0.0
    kwh: float = 0.0
    currency: str = ""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a job has used so far."""

    gpu_hours: float  # GPUs held, times hours
    core_hours: float  # cores given to the ranks, times hours
    busy_core_hours: float  # in which they ran
    energy: float  # kWh
    estimated: tuple[str, ...]  # of 'processor', 'GPU': what no counter told
    money: float | None  # None where no price is set
    currency: str = ""

    def line(self) -> str:
        """Return it as one line: '0.4 GPU-hours, 3.2 core-hours, 0.11 kWh (estimated), 0.82 EUR'."""
        words = [f"{_amount(self.gpu_hours)} GPU-hours"] if self.gpu_hours else []
        words.append(f"{_amount(self.core_hours)} core-hours")
        words.append(self.energy_text())
        if self.money is not None:
            words.append(self.money_text())
        return ", ".join(words)

    def words(self) -> tuple[str, str, str, str]:
        """Return the cells of a table: GPU-hours, core-hours, energy, money."""
        hours = _amount(self.gpu_hours) if self.gpu_hours else ""
        return hours, _amount(self.core_hours), self.energy_text(), self.money_text()

    def energy_text(self) -> str:
        large = self.energy >= 1
        amount = f"{_amount(self.energy)} kWh" if large else f"{_amount(1000 * self.energy)} Wh"
        if not self.estimated:
            return amount
        part = "" if len(self.estimated) > 1 or not self.gpu_hours else f"{self.estimated[0]} "
        return f"{amount} ({part}estimated)"

    def money_text(self) -> str:
        if self.money is None:
            return ""
        digits = f"{self.money:.2f}" if self.money >= 1 else f"{self.money:.4f}"
        return f"{digits} {self.currency}".rstrip()


def cost_of(job: Job, status: JobStatus, prices: Prices, now: float) -> Cost:
    """Return what a job has used up to its end, or up to `now` (seconds since the epoch)."""
    end = status.since if status.state.final else now
    seconds = max(0.0, end - status.started) if status.started else 0.0
    totals = [newest_values(job.paths.metrics(slot.rank), "sys") for slot in job.spec.slots]
    return added_up(job.spec.slots, totals, seconds, prices)


def added_up(
    slots: Sequence[Slot], totals: Sequence[Mapping[str, float]], seconds: float, prices: Prices
) -> Cost:
    """Return the cost of ranks that held their slots for `seconds`; `totals` are their last rows."""
    gpus = sum(slot.gpu is not None for slot in slots)
    busy = sum(total.get("cpu_seconds", 0.0) for total in totals)
    joules, estimated = 0.0, []
    for what, name, guess in (
        ("processor", "cpu_energy", busy * WATTS_OF_A_CORE),
        ("GPU", "gpu_energy", gpus * seconds * WATTS_OF_A_GPU),
    ):
        told = [total[name] for total in totals if name in total]
        if len(told) == len(slots):
            joules += sum(told)
        elif guess or what == "processor":
            joules += guess
            estimated.append(what)
    hours = seconds / HOUR
    gpu_hours, core_hours = gpus * hours, sum(slot.threads for slot in slots) * hours
    energy = joules / KILOWATT_HOUR
    paid = (prices.gpu_hour, prices.core_hour, prices.kwh)
    money = sum(a * b for a, b in zip(paid, (gpu_hours, core_hours, energy), strict=True))
    return Cost(
        gpu_hours=gpu_hours,
        core_hours=core_hours,
        busy_core_hours=busy / HOUR,
        energy=energy,
        estimated=tuple(estimated),
        money=money if any(paid) else None,
        currency=prices.currency,
    )


def total(costs: Sequence[Cost]) -> Cost:
    """Return several jobs together."""
    money = [cost.money for cost in costs if cost.money is not None]
    return Cost(
        gpu_hours=sum(cost.gpu_hours for cost in costs),
        core_hours=sum(cost.core_hours for cost in costs),
        busy_core_hours=sum(cost.busy_core_hours for cost in costs),
        energy=sum(cost.energy for cost in costs),
        estimated=tuple(dict.fromkeys(part for cost in costs for part in cost.estimated)),
        money=sum(money) if money else None,
        currency=next((cost.currency for cost in costs), ""),
    )


def prices_of(settings: Settings) -> Prices:
    return Prices(
        settings.gpu_hour_price,
        settings.core_hour_price,
        settings.kwh_price,
        settings.currency,
    )


def _amount(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"  # noqa: PLR2004 - three digits are enough
