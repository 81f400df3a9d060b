"""Reads history: the right table for each part of a span of time, as one Arrow table.

A tier's table holds final buckets only, and each tier reaches back as far as its rows live. So a span is cut
where a tier begins to expire, at a border of the coarser tier's buckets; and what a table lacks, as the
buckets that are not final yet, is rolled up from samples as it is read. Where there are no samples either, a
coarser table may have the rows: one that was filled for longer, or by other runs. Every moment is in exactly
one bucket.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from airflow_provider_restrack import clock
from airflow_provider_restrack.capacity.buckets import (
    Part,
    build_table,
    cut_samples,
    cut_to_spans,
    of_made,
    of_rollups,
    of_samples,
)
from airflow_provider_restrack.capacity.refresh import EXPIRY_MARGIN_S
from airflow_provider_restrack.capacity.rollup import roll_up
from airflow_provider_restrack.store.read import check_window
from airflow_provider_restrack.store.rollups import RowReader, read_ttls
from airflow_provider_restrack.store.schema import KEYSPACE, SYSTEM_METRICS
from airflow_provider_restrack.store.tiers import METRIC_BY_NAME, TIERS, Tier, ceil_to, floor_to

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

Resolution = Literal["auto", "raw", "5m", "1h", "1d"]
# "auto" takes samples up to 6 hours, and beyond that the finest tier that gives so many points a series at
# most: more than that no plot can show.
RAW_SPAN_S = 6 * 3600
MAX_POINTS = 2500
_LEVELS: tuple[Tier | None, ...] = (None, *TIERS)
_WORKERS = 8
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a span, ``[since, until)`` in seconds, and the tier that it is read from; None: samples."""

    tier: Tier | None
    since_s: int
    until_s: int


@dataclass(frozen=True, slots=True)
class _Query:
    """What is asked: metrics, and the times as given, in milliseconds; ``now_s`` in seconds."""

    names: tuple[str, ...]
    since_ms: int
    until_ms: int
    now_s: int


def history(  # noqa: PLR0917 - the order reads as a sentence
    session: Any,
    hosts: Sequence[str] | str,
    metrics: Sequence[str] | str,
    since: datetime,
    until: datetime,
    resolution: Resolution = "auto",
    *,
    keyspace: str = KEYSPACE,
    now: datetime | None = None,
) -> pa.Table:
    """Return the history of metrics, one row a host, metric, device and bucket, in the order of time.

    Columns: ``host``, ``metric``, ``device`` (null unless the metric is a map), ``timestamp`` (start of the
    bucket, UTC), ``seconds`` (its length; 0 for a sample), ``count``, ``min``, ``max``, ``sum``, ``last``,
    ``p95``, ``avg`` and ``coverage``, in the units of the metric.

    :param session: an open session, such as ``store.session.open_session`` gives.
    :param since: start; the bucket that it lies in is the first.
    :param until: end, not included.
    :param resolution: ``raw``, ``5m``, ``1h``, ``1d``, or by the length of the span. What is older than that
        resolution is kept comes in the next coarser.
    :raises ValueError: if a metric is none of a sample's, a time is naive, or the span is reversed.
    :raises CassandraError: if a table is missing or Cassandra does not answer.
    """
    reader = HistoryReader(session, keyspace)
    return reader.read(hosts, metrics, since, until, resolution, now=now)


class HistoryReader:
    """Reads history again and again over one session: keeps what is prepared, and how long rows live."""

    def __init__(self, session: Any, keyspace: str = KEYSPACE) -> None:
        self._session, self._keyspace = session, keyspace
        tables = [SYSTEM_METRICS.name, *(tier.table_name for tier in TIERS)]
        ttls = read_ttls(session, keyspace, tables)
        self._ttls = dict(zip(_LEVELS, (ttls[name] for name in tables), strict=True))
        self._readers: dict[tuple[str, tuple[str, ...]], RowReader] = {}
        self._preparing = Lock()

    def read(
        self,
        hosts: Sequence[str] | str,
        metrics: Sequence[str] | str,
        since: datetime,
        until: datetime,
        resolution: Resolution = "auto",
        *,
        now: datetime | None = None,
    ) -> pa.Table:
        """Return what ``history`` does."""
        names = _check_metrics([metrics] if isinstance(metrics, str) else metrics)
        hosts = [hosts] if isinstance(hosts, str) else list(dict.fromkeys(hosts))
        span = _check_span(since, until)
        now_s = int((now or clock.utc_now()).timestamp())
        query = _Query(names, _milliseconds(since), _milliseconds(until), now_s)
        segments = plan_segments(*span, choose_level(*span, resolution), self._ttls, now_s)
        # Prepared here, all but the coarser tables that are seldom asked: the threads then need not wait.
        for segment in segments:
            self._reader(segment.tier, names)
        self._reader(None, names)

        def read_host(host: str) -> list[Part]:
            parts = [part for one in segments for part in self._read_segment(host, query, one)]
            return [*parts, *self._read_coarser(host, query, segments, parts)]

        with ThreadPoolExecutor(min(_WORKERS, max(1, len(hosts)))) as pool:
            return build_table(list(zip(hosts, pool.map(read_host, hosts), strict=True)), names)

    def _reader(self, tier: Tier | None, names: tuple[str, ...]) -> RowReader:
        key = (tier.name if tier else "raw", names)
        with self._preparing:
            if key not in self._readers:
                columns = ("interval", *names) if tier else names
                self._readers[key] = RowReader(self._session, self._keyspace, tier, columns)
            return self._readers[key]

    def _read_segment(self, host: str, query: _Query, segment: Segment) -> Iterator[Part]:
        found = self._reader(segment.tier, query.names).read(host, segment.since_s, segment.until_s)
        if segment.tier is None:
            yield of_samples(cut_samples(found, query.since_ms, query.until_ms))
            return
        tier = segment.tier
        yield of_rollups(found, tier)
        raw_ttl = self._ttls[None]
        oldest = ceil_to(query.now_s + EXPIRY_MARGIN_S - raw_ttl, tier.seconds) if raw_ttl else 0
        last = min(segment.until_s, query.now_s)
        for start, end in find_holes(found.times // 1000, max(segment.since_s, oldest), last, tier.seconds):
            samples = self._reader(None, query.names).read(host, start, end)
            keys = list(samples.series)
            values = np.array([samples.series[key] for key in keys]).reshape(len(keys), samples.times.size)
            yield of_made(keys, roll_up(samples.times, values, tier.seconds), tier)

    def _read_coarser(
        self, host: str, query: _Query, segments: Sequence[Segment], parts: Sequence[Part]
    ) -> Iterator[Part]:
        """Yield what coarser tables have of the time that nothing was found of: one query each at most."""
        starts = [part.starts_ms // 1000 for part in parts]
        samples = [
            int(part.starts_ms[0]) // 1000 for part in parts if not part.seconds and part.starts_ms.size
        ]
        for tier in TIERS if parts else ():
            holes = plan_coarser(segments, np.concatenate(starts), tier, min([query.now_s, *samples]))
            if holes:
                found = self._reader(tier, query.names).read(host, holes[0][0], holes[-1][1])
                part = of_rollups(cut_to_spans(found, holes), tier)
                starts.append(part.starts_ms // 1000)
                yield part


def choose_level(since_s: int, until_s: int, resolution: str) -> int:
    """Return the place of a resolution among samples and tiers, finest first.

    :raises ValueError: if it is unknown.
    """
    names = ["raw", *(tier.name for tier in TIERS)]
    if resolution in names:
        return names.index(resolution)
    if resolution != "auto":
        raise ValueError(f"resolution {resolution!r} is unknown: use auto, {', '.join(names)}")
    length = until_s - since_s
    if length <= RAW_SPAN_S:
        return 0
    fits = [n for n, tier in enumerate(TIERS, 1) if length <= MAX_POINTS * tier.seconds]
    return fits[0] if fits else len(TIERS)


def plan_segments(
    since_s: int, until_s: int, level: int, ttls: Mapping[Tier | None, int], now_s: int
) -> list[Segment]:
    """Return which part of a span is read where, oldest first; parts touch, and none overlaps another.

    :param level: the finest place that may be read.
    :param ttls: how long rows live by tier, None for samples; 0 for ever.
    """
    if since_s >= until_s:
        return []
    segments: list[Segment] = []
    for tier in reversed(_LEVELS[level:]):
        oldest = now_s + EXPIRY_MARGIN_S - ttls[tier] if ttls[tier] else since_s
        if not segments or oldest <= since_s:
            segments = [Segment(tier, floor_to(since_s, tier.seconds) if tier else since_s, until_s)]
            continue
        # A border is one of the coarser part that it cuts: that part's last bucket ends there.
        cut = next((one.tier for one in reversed(segments) if one.since_s <= oldest), None)
        border = ceil_to(oldest, cut.seconds if cut else 1)
        if border < until_s:
            older = [one for one in segments if one.since_s < border]
            older[-1] = replace(older[-1], until_s=border)
            segments = [*older, Segment(tier, border, until_s)]
    return segments


def plan_coarser(
    segments: Sequence[Segment], starts: NDArray[np.int64], tier: Tier, until_s: int
) -> list[tuple[int, int]]:
    """Return the spans of whole buckets of a tier that lie in what is read finer, where nothing was found.

    :param starts: of all that was found, in seconds; none of it reaches over a bucket of the tier.
    :param until_s: where to end: now, or the first sample, before which only older ones may have gone.
    """
    finer = [one for one in segments if one.tier is None or one.tier.seconds < tier.seconds]
    if not finer:
        return []
    end = floor_to(min(finer[-1].until_s, until_s), tier.seconds)
    return find_holes(starts // tier.seconds * tier.seconds, finer[0].since_s, end, tier.seconds)


def find_holes(starts: NDArray[np.int64], since_s: int, until_s: int, bucket_s: int) -> list[tuple[int, int]]:
    """Return the spans ``[since, until)`` of the whole buckets of a span that are not among ``starts``."""
    wanted = np.arange(ceil_to(since_s, bucket_s), until_s, bucket_s)
    missing = wanted[~np.isin(wanted, starts)]
    if not missing.size:
        return []
    cuts = np.flatnonzero(np.diff(missing) != bucket_s) + 1
    return [(int(run[0]), int(run[-1]) + bucket_s) for run in np.split(missing, cuts)]


def export(table: pa.Table, path: str | Path) -> Path:
    """Write a table as CSV or Parquet, by the name's ending, and return its path.

    :raises ValueError: if the name ends otherwise.
    """
    target = Path(path)
    if target.suffix == ".csv":
        from pyarrow import csv

        csv.write_csv(table, target)
    elif target.suffix == ".parquet":
        from pyarrow import parquet

        parquet.write_table(table, target)
    else:
        raise ValueError(f"{target.name!r} ends neither in .csv nor in .parquet")
    return target


def _check_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    if unknown := [name for name in metrics if name not in METRIC_BY_NAME]:
        raise ValueError(
            f"no metric of a sample: {', '.join(map(repr, unknown))}; docs/metrics.md lists them"
        )
    if not metrics:
        raise ValueError("no metric: name at least one")
    return tuple(dict.fromkeys(metrics))


def _check_span(since: datetime, until: datetime) -> tuple[int, int]:
    check_window(since, until)
    return int(since.timestamp()), int(np.ceil(until.timestamp()))


def _milliseconds(moment: datetime) -> int:
    """Return the first whole millisecond that is not before a time."""
    return -((_EPOCH - moment) // timedelta(milliseconds=1))
