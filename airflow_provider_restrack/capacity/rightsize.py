"""What is bought and not used: the CPUs and the memory that a host would need for what it does."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from airflow_provider_restrack.capacity.forecast import DailyReader, DailyRow

GIB = 2**30
_METRICS = ("cpu_usage", "memory_usage", "cpu_count", "memory_total")
SizeVerdict = Literal["too large", "too small", "fits", "insufficient data"]


@dataclass(frozen=True, slots=True)
class SizePolicy:
    """When a size does not fit, in percent of it: p95 that stays below ``low`` or above ``high`` over the
    days.

    ``target`` is where the p95 shall be after a change of size.
    """

    low: float = 30.0
    high: float = 85.0
    target: float = 60.0
    days: int = 30
    min_coverage: float = 0.7

    def __post_init__(self) -> None:
        if not 0 < self.low < self.target < self.high <= 100:
            raise ValueError(
                f"0 < low < target < high ≤ 100 is needed: {self.low}, {self.target}, {self.high}"
            )
        if not self.days >= 1:
            raise ValueError(f"days must be 1 or more, it is {self.days!r}")
        if not 0 < self.min_coverage <= 1:
            raise ValueError(f"min_coverage must be above 0 and at most 1, it is {self.min_coverage!r}")


@dataclass(frozen=True, slots=True)
class SizeAdvice:
    """How a host's size fits its use. ``p95_low`` and ``p95_high`` are the quietest and the busiest day's
    p95 in %.

    :ivar size: what it has, in ``unit``; ``fitting`` what would fit, None where nothing is to change.
    """

    host: str
    resource: str
    unit: str
    verdict: SizeVerdict
    days: int
    size: float | None = None
    fitting: float | None = None
    p95_low: float | None = None
    p95_high: float | None = None

    def to_data(self) -> dict[str, Any]:
        """Return it for JSON and XCom."""
        return asdict(self)


def size_hosts(
    reader: DailyReader, hosts: Sequence[str] | None, until: date, policy: SizePolicy
) -> list[SizeAdvice]:
    """Return the advice for the CPUs and the memory of hosts (None: all that are known).

    :param until: the last day that counts; it has to be over.
    """
    since = until - timedelta(days=policy.days - 1)
    found = []
    for host, series in groupby(reader.read_daily(hosts, _METRICS, since, until), lambda one: one[0].host):
        rows = {key.metric: days for key, days in series}
        count, total = (_newest(rows.get(name, ())) for name in ("cpu_count", "memory_total"))
        found.append(size_cpus(host, rows.get("cpu_usage", ()), count, until, policy))
        found.append(size_memory(host, rows.get("memory_usage", ()), total, until, policy))
    return found


def size_cpus(
    host: str, usage: Iterable[DailyRow], count: float | None, until: date, policy: SizePolicy
) -> SizeAdvice:
    """Return the whole CPUs that a host needs; ``usage`` is its ``cpu_usage``, ``count`` its CPUs now."""
    return _advise(host, "cpu", "CPUs", usage, count, 1.0, until, policy)


def size_memory(
    host: str, usage: Iterable[DailyRow], total: float | None, until: date, policy: SizePolicy
) -> SizeAdvice:
    """Return the memory that a host needs, in whole GiB as bytes; ``usage`` is its ``memory_usage``."""
    return _advise(host, "memory", "bytes", usage, total, float(GIB), until, policy)


def _newest(rows: Sequence[DailyRow]) -> float | None:
    return rows[-1].last if rows else None


def _advise(  # noqa: PLR0917 - private, in the order of the result
    host: str,
    resource: str,
    unit: str,
    usage: Iterable[DailyRow],
    size: float | None,
    step: float,
    until: date,
    policy: SizePolicy,
) -> SizeAdvice:
    last = until.toordinal()
    taken = [row.p95 for row in usage if row.samples > 0 and last - policy.days < row.day.toordinal() <= last]
    if size is None or not taken or len(taken) < policy.min_coverage * policy.days:
        return SizeAdvice(host, resource, unit, "insufficient data", len(taken), size)
    low, high = min(taken), max(taken)
    verdict: SizeVerdict = "too large" if high < policy.low else "too small" if low > policy.high else "fits"
    fitting = _fit(verdict, size, high, step, policy)
    if fitting == size:
        verdict, fitting = "fits", None
    return SizeAdvice(host, resource, unit, verdict, len(taken), size, fitting, low, high)


def _fit(verdict: SizeVerdict, size: float, high: float, step: float, policy: SizePolicy) -> float | None:
    """Return the size, in whole steps, that brings the busiest day's p95 to the target; not larger if too
    large.
    """
    if verdict == "fits":
        return None
    wanted = max(step, math.ceil(round(size * high / policy.target / step, 6)) * step)
    return min(wanted, size) if verdict == "too large" else max(wanted, size)
