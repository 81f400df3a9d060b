"""Brings the tables of rollups up to date: which buckets, from which samples, host by host.

The plan is a decision from times alone. A host's day is read once, reduced for every tier and written, so
that memory holds one day of as many hosts as run at once, however long the span is.
"""

from __future__ import annotations

from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_restrack import clock
from airflow_provider_restrack.capacity.rollup import roll_up
from airflow_provider_restrack.store.read import check_window
from airflow_provider_restrack.store.rollups import RollupWriter, RowReader, read_ttls
from airflow_provider_restrack.store.schema import SYSTEM_METRICS
from airflow_provider_restrack.store.tiers import DAY_S, METRICS, TIERS, Tier, ceil_to, floor_to

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_restrack.store.columns import Key

# A row that expires while it is read would be missing in the bucket: so much before its end counts as
# expired.
EXPIRY_MARGIN_S = 600


@dataclass(frozen=True, slots=True)
class RollupPolicy:
    """What the user chose.

    ``lookback_s``: how far before the span buckets are done again. ``delay_s``: a bucket is final so long
    after its end, and is not written before. ``raw_ttl_s``: how long samples live, None for what the table
    says, 0 for ever. ``workers``: hosts at once.
    """

    keyspace: str
    tiers: tuple[Tier, ...] = TIERS
    lookback_s: float = 3 * 3600
    delay_s: float = 300
    raw_ttl_s: float | None = None
    workers: int = 4

    def __post_init__(self) -> None:
        if not self.tiers:
            raise ValueError(f"no tier: name at least one of {', '.join(tier.name for tier in TIERS)}")
        if self.workers < 1:
            raise ValueError(f"workers must be 1 or more, it is {self.workers}")


@dataclass(frozen=True, slots=True)
class TierSpan:
    """The buckets of a tier to write, ``[since, until)`` in seconds since 1970.

    ``expired`` is how many were asked for whose samples have begun to expire.
    """

    tier: Tier
    since_s: int
    until_s: int
    expired: int


@dataclass(slots=True)
class RollupResult:
    """What happened: samples read, buckets written and left out by tier.

    ``expired`` is how many buckets of a host were left as they are: of the host that was read when most of
    them had begun to expire.
    """

    hosts: int = 0
    samples: int = 0
    buckets: dict[str, int] = field(default_factory=dict)
    expired: dict[str, int] = field(default_factory=dict)
    spans: dict[str, list[str]] = field(default_factory=dict)
    seconds: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return it as XCom takes it."""
        return {name: getattr(self, name) for name in self.__slots__}


def plan_spans(
    policy: RollupPolicy, since: datetime, until: datetime, now: datetime, raw_ttl_s: float
) -> list[TierSpan]:
    """Return the buckets to write for an interval of time.

    Those that touch the interval or the ``lookback`` before it, have ended in it, are final by now, and have
    samples none of which has begun to expire.

    :raises ValueError: if a time is naive or the interval is reversed.
    """
    check_window(since, until)
    first = since.timestamp() - policy.lookback_s
    end = min(until.timestamp(), now.timestamp() - policy.delay_s)
    oldest = now.timestamp() + EXPIRY_MARGIN_S - raw_ttl_s if raw_ttl_s else 0.0
    return [_plan_span(tier, first, end, oldest) for tier in policy.tiers]


def _plan_span(tier: Tier, first: float, end: float, oldest: float) -> TierSpan:
    wanted, last = floor_to(int(first), tier.seconds), floor_to(int(end), tier.seconds)
    start = max(wanted, min(last, ceil_to(int(oldest), tier.seconds)))
    start = min(start, max(last, wanted))
    return TierSpan(tier, start, max(last, start), (start - wanted) // tier.seconds)


def cut_span(span: TierSpan, since_s: int, until_s: int, read_at: datetime, raw_ttl_s: float) -> TierSpan:
    """Return the part of a span that is made of a day's samples, as they are when their reading begins.

    A run may take longer than ``EXPIRY_MARGIN_S``: buckets that have begun to expire since it was planned are
    left out, and counted as ``expired``.
    """
    first, last = max(span.since_s, since_s), min(span.until_s, until_s)
    oldest = read_at.timestamp() + EXPIRY_MARGIN_S - raw_ttl_s if raw_ttl_s else 0.0
    start = max(first, min(last, ceil_to(int(oldest), span.tier.seconds)))
    return TierSpan(span.tier, start, max(start, last), (start - first) // span.tier.seconds)


def refresh(
    session: Any,
    policy: RollupPolicy,
    hosts: Sequence[str],
    since: datetime,
    until: datetime,
    *,
    now: Callable[[], datetime] = clock.utc_now,
) -> RollupResult:
    """Write the rollups of an interval, ``workers`` hosts at once.

    Running it again, in any order and after a kill at any point, leaves the same rows: every bucket is made
    anew from all of its samples and written whole.

    :raises CassandraError: at the first host that cannot be read or written; the others at work are finished.
    """
    began = clock.monotonic()
    tables = (SYSTEM_METRICS.name, *(tier.table_name for tier in policy.tiers))
    ttls = read_ttls(session, policy.keyspace, tables)
    raw_ttl_s = ttls[SYSTEM_METRICS.name] if policy.raw_ttl_s is None else policy.raw_ttl_s
    spans = plan_spans(policy, since, until, now(), raw_ttl_s)
    result = RollupResult(
        expired={span.tier.name: span.expired for span in spans},
        buckets={span.tier.name: 0 for span in spans},
        spans={span.tier.name: [_iso(span.since_s), _iso(span.until_s)] for span in spans},
    )
    todo = [span for span in spans if span.since_s < span.until_s]
    if todo:
        lives = [(one, ttls[one.tier.table_name]) for one in todo]
        work = _HostRefresh(session, policy.keyspace, lives, raw_ttl_s, now)
        _run(work, list(dict.fromkeys(hosts)), policy.workers, result)
    result.seconds = round(clock.monotonic() - began, 3)
    return result


def _run(work: _HostRefresh, hosts: Sequence[str], workers: int, result: RollupResult) -> None:
    """Do all hosts, and add up what each has given."""
    with ThreadPoolExecutor(workers, thread_name_prefix="rollup") as pool:
        futures = [pool.submit(work.run, host) for host in hosts]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
            for future in futures:
                if future.done() and (error := future.exception()):
                    raise error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    found = [future.result() for future in futures]
    for done in found:
        result.hosts += 1
        result.samples += done.samples
        for name, count in done.buckets.items():
            result.buckets[name] += count
    for name in found[0].expired if found else ():
        result.expired[name] += max(done.expired[name] for done in found)


@dataclass(slots=True)
class _HostCounts:
    """What was done of one host; ``expired``: buckets whose samples began to expire after the plan."""

    samples: int
    buckets: dict[str, int]
    expired: dict[str, int]


class _HostRefresh:
    """Reads, reduces and writes one host after the other; one for all threads.

    :param spans: what is written, each with how long its rows live.
    """

    def __init__(
        self,
        session: Any,
        keyspace: str,
        spans: Sequence[tuple[TierSpan, int]],
        raw_ttl_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._now, self._raw_ttl_s = now, raw_ttl_s
        self._reader = RowReader(session, keyspace, None, [one.name for one in METRICS])
        self._writers = [(span, RollupWriter(session, keyspace, span.tier), ttl_s) for span, ttl_s in spans]

    def run(self, host: str) -> _HostCounts:
        """Bring one host up to date, day by day."""
        names = [span.tier.name for span, *_ in self._writers]
        done = _HostCounts(0, dict.fromkeys(names, 0), dict.fromkeys(names, 0))
        since = min(span.since_s for span, *_ in self._writers)
        until = max(span.until_s for span, *_ in self._writers)
        for day in range(floor_to(since, DAY_S), until, DAY_S):
            self._run_day(host, max(day, since), min(day + DAY_S, until), done)
        return done

    def _run_day(self, host: str, since: int, until: int, done: _HostCounts) -> None:
        read_at = self._now()
        parts = [
            (cut_span(span, since, until, read_at, self._raw_ttl_s), writer, ttl_s)
            for span, writer, ttl_s in self._writers
        ]
        for part, *_ in parts:
            done.expired[part.tier.name] += part.expired
        columns = self._reader.read(host, since, until)
        if not columns.times.size:
            return
        keys: list[Key] = list(columns.series)
        values = np.array([columns.series[key] for key in keys]).reshape(len(keys), columns.times.size)
        for part, writer, ttl_s in parts:
            inside = slice(*np.searchsorted(columns.times, (part.since_s * 1000, part.until_s * 1000)))
            if inside.start < inside.stop:
                made = roll_up(columns.times[inside], values[:, inside], part.tier.seconds)
                done.buckets[part.tier.name] += writer.write(host, keys, made, read_at, ttl_s)
        done.samples += int(columns.times.size)


def _iso(seconds: int) -> str:
    return clock.format_utc(datetime.fromtimestamp(seconds, tz=UTC))
