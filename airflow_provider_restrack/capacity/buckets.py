"""Buckets of history from one place or another, and how they become one Arrow table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_restrack.store.columns import Columns, Key
from airflow_provider_restrack.store.tiers import AGGREGATE_FIELDS, COUNTERS, DAY_S, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from airflow_provider_restrack.store.rollups import Rollup


@dataclass(frozen=True, slots=True)
class Part:
    """Buckets of one host from one place: starts in ms, and by metric and device the six arrays."""

    seconds: int
    starts_ms: NDArray[np.int64]
    interval: NDArray[np.float64]
    series: Mapping[Key, Mapping[str, NDArray[Any]]]


def cut_samples(found: Columns, since_ms: int, until_ms: int) -> Columns:
    """Return the samples with ``since <= time < until``: a table is asked by whole seconds."""
    return _take(found, slice(*np.searchsorted(found.times, (since_ms, until_ms))))


def cut_to_spans(found: Columns, spans: Sequence[tuple[int, int]]) -> Columns:
    """Return the rows that lie in one of some spans in seconds, ascending."""
    borders = np.array(spans).ravel() * 1000
    return _take(found, np.searchsorted(borders, found.times, side="right") % 2 == 1)


def _take(found: Columns, which: Any) -> Columns:
    return Columns(found.times[which], {key: values[which] for key, values in found.series.items()})


def of_samples(found: Columns) -> Part:
    """Return samples as buckets of their own; of a counter only the last value, as in the tables."""

    def spread(key: Key, values: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        there = np.isfinite(values).astype(np.float64)
        kept = ("last",) if key.column in COUNTERS else tuple(AGGREGATE_FIELDS)
        nothing = np.full(len(values), np.nan)
        return {name: values if name in kept else nothing for name in AGGREGATE_FIELDS} | {"count": there}

    unknown = np.full(found.times.size, np.nan)
    return Part(0, found.times, unknown, {key: spread(key, values) for key, values in found.series.items()})


def of_rollups(found: Columns, tier: Tier) -> Part:
    """Return rows of a tier's table as buckets."""
    nothing = np.full(found.times.size, np.nan)
    series: dict[Key, dict[str, NDArray[Any]]] = {}
    for key, values in found.series.items():
        if key.field is not None:
            whole = series.setdefault(Key(key.column, key.device), dict.fromkeys(AGGREGATE_FIELDS, nothing))
            whole[key.field] = values
    return Part(tier.seconds, found.times, found.series.get(Key("interval"), nothing), series)


def of_made(keys: Sequence[Key], made: Rollup, tier: Tier) -> Part:
    """Return rollups that were just made as buckets."""
    nothing = np.full(made.starts.size, np.nan)
    series = {
        key: {
            name: nothing
            if key.column in COUNTERS and name not in {"count", "last"}
            else getattr(made, name)[number]
            for name in AGGREGATE_FIELDS
        }
        for number, key in enumerate(keys)
    }
    return Part(tier.seconds, made.starts * 1000, made.interval, series)


def build_table(found: Sequence[tuple[str, list[Part]]], names: Sequence[str]) -> pa.Table:
    """Return all parts as one table: hosts and metrics as asked for, devices by name, then time."""
    import pyarrow as pa

    blocks = [
        (host, key, _join(parts, key))
        for host, parts in found
        for key in sorted(
            {key for part in parts for key in part.series},
            key=lambda key: (names.index(key.column), key.device or ""),
        )
    ]
    arrays = {
        name: np.concatenate([block[name] for *_, block in blocks]) if blocks else np.zeros(0)
        for name in ("starts_ms", "seconds", *AGGREGATE_FIELDS, "coverage")
    }
    sizes = [block["starts_ms"].size for *_, block in blocks]
    count = arrays["count"]
    average = np.divide(arrays["sum"], count, out=np.full(count.shape, np.nan), where=count > 0)
    doubles = {name: arrays[name] for name in ("min", "max", "sum", "last", "p95")}
    doubles |= {"avg": average, "coverage": arrays["coverage"]}
    return pa.table(
        {
            "host": _repeat([host for host, *_ in blocks], sizes),
            "metric": _repeat([key.column for _, key, _ in blocks], sizes),
            "device": _repeat([key.device for _, key, _ in blocks], sizes),
            "timestamp": pa.array(arrays["starts_ms"].astype(np.int64), pa.timestamp("ms", "UTC")),
            "seconds": pa.array(arrays["seconds"].astype(np.int32)),
            "count": pa.array(count.astype(np.int64)),
            **{name: pa.array(values, pa.float64(), from_pandas=True) for name, values in doubles.items()},
        }
    )


def _join(parts: Sequence[Part], key: Key) -> dict[str, NDArray[Any]]:
    """Return one series over all parts, in the order of time, without buckets that have no value."""
    there = [part for part in parts if key in part.series]
    joined: dict[str, NDArray[Any]] = {
        name: np.concatenate([part.series[key][name] for part in there]) for name in AGGREGATE_FIELDS
    }
    joined["starts_ms"] = np.concatenate([part.starts_ms for part in there])
    joined["seconds"] = np.concatenate([np.full(part.starts_ms.size, part.seconds) for part in there])
    spacing = _usual_spacing(joined["starts_ms"], np.concatenate([part.interval for part in there]))
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.minimum(1.0, joined["count"] * spacing / joined["seconds"])
    joined["coverage"] = np.where(joined["seconds"] > 0, share, np.nan)
    order = np.argsort(joined["starts_ms"], kind="stable")
    order = order[np.nan_to_num(joined["count"][order]) > 0]
    return {name: values[order] for name, values in joined.items()}


def _usual_spacing(starts_ms: NDArray[np.int64], interval: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return of each bucket the usual distance of samples on its UTC day, in seconds; NaN if unknown.

    The median of the buckets' own medians, so that an outage in one of them does not count; where every
    bucket has but one sample, the distance of the buckets.
    """
    days = starts_ms // (DAY_S * 1000)
    spacing = np.full(starts_ms.size, np.nan)
    for day in np.unique(days):
        inside = days == day
        known = interval[inside & np.isfinite(interval)]
        if not known.size:
            known = np.diff(np.sort(starts_ms[inside])) / 1000
        if known.size:
            spacing[inside] = np.median(known)
    return spacing


def _repeat(values: Sequence[str | None], sizes: Sequence[int]) -> Any:
    """Return each value so many times, as a dictionary-encoded column."""
    import pyarrow as pa

    known = list(dict.fromkeys(value for value in values if value is not None))
    codes = np.array([known.index(value) if value is not None else -1 for value in values], np.int32)
    repeated = np.repeat(codes, np.array(sizes, int))
    return pa.DictionaryArray.from_arrays(
        pa.array(repeated, pa.int32(), mask=repeated < 0), pa.array(known, pa.string())
    )
