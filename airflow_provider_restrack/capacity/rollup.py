"""Reduces samples to buckets of time: whole columns at once, one pass for every tier.

Pure: numbers in, numbers out. The same samples give the same bits, in whatever span they are read, since a
bucket is reduced by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from airflow_provider_restrack.store.rollups import Rollup

if TYPE_CHECKING:
    from numpy.typing import NDArray

QUANTILE = 0.95


def roll_up(times_ms: NDArray[np.int64], values: NDArray[np.float64], bucket_s: int) -> Rollup:
    """Reduce samples to buckets of UTC time.

    :param times_ms: time of each sample in milliseconds since 1970, ascending, each once.
    :param values: series × samples; what is not finite is absent.
    :param bucket_s: length of a bucket in seconds; buckets are counted from 1970.
    """
    bucket = times_ms // (bucket_s * 1000)
    first = np.flatnonzero(np.diff(bucket, prepend=bucket[:1] - 1))
    sizes = np.diff(first, append=len(bucket))
    shape = (len(values), len(first))
    made = Rollup(
        bucket[first] * bucket_s,
        sizes,
        np.full(len(first), np.nan),
        np.zeros(shape, np.int64),
        *(np.full(shape, np.nan) for _ in range(5)),
    )
    # Buckets of one size make a dense block: no padding, whatever the spacing of the samples is.
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        index = first[which][:, None] + np.arange(size)
        if size > 1:
            made.interval[which] = np.median(np.diff(times_ms[index], axis=-1), axis=-1) / 1000
        # How numbers lie in memory decides in which order numpy adds them: alike for any number of series.
        _reduce(np.ascontiguousarray(values[:, index]), made, which)
    return made


def _reduce(block: NDArray[np.float64], made: Rollup, which: NDArray[np.int64]) -> None:
    """Reduce series × buckets × samples over the samples, into the given buckets."""
    present = np.isfinite(block)
    whole = present.all(axis=(1, 2))
    if whole.all():
        _reduce_whole(block, made, (slice(None), which))
        return
    series = np.flatnonzero(whole)
    _reduce_whole(block[series], made, np.ix_(series, which))
    series = np.flatnonzero(~whole)
    _reduce_gaps(block[series], present[series], made, np.ix_(series, which))


def _reduce_whole(block: NDArray[np.float64], made: Rollup, at: Any) -> None:
    """Reduce series that have a value in every sample."""
    size = block.shape[-1]
    made.count[at] = size
    made.min[at], made.max[at] = block.min(axis=-1), block.max(axis=-1)
    made.sum[at] = block.sum(axis=-1)
    made.last[at] = block[..., -1]
    lower, upper = (int(one) for one in _ranks(np.array(size))[:2])
    ordered = np.partition(block, (lower, upper), axis=-1)
    made.p95[at] = _quantile(ordered, np.full(block.shape[:-1], size))


def _reduce_gaps(block: NDArray[np.float64], present: NDArray[np.bool_], made: Rollup, at: Any) -> None:
    """Reduce series that lack some values."""
    count = present.sum(axis=-1)
    ordered = np.sort(np.where(present, block, np.nan), axis=-1)  # NaN sorts to the end
    last = block.shape[-1] - 1 - np.argmax(present[..., ::-1], axis=-1)
    some = count > 0
    made.count[at] = count
    made.min[at] = ordered[..., 0]
    made.max[at] = _take(ordered, np.maximum(count - 1, 0))
    made.sum[at] = np.where(some, np.where(present, block, 0.0).sum(axis=-1), np.nan)
    made.last[at] = np.where(some, _take(block, last), np.nan)
    made.p95[at] = _quantile(ordered, count)


def _ranks(
    count: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the places below and above the quantile among so many sorted values, and the upper's weight."""
    most = np.maximum(count - 1, 0)
    rank = QUANTILE * most
    lower = np.floor(rank).astype(np.int64)
    return lower, np.minimum(lower + 1, most), rank - lower


def _quantile(ordered: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the 0.95 quantile of values that are in order at its ranks.

    Linear between ranks, as Prometheus' ``quantile``:
    https://github.com/prometheus/prometheus/blob/main/promql/quantile.go
    """
    lower, upper, weight = _ranks(count)
    found: NDArray[np.float64] = _take(ordered, lower) * (1 - weight) + _take(ordered, upper) * weight
    return found


def _take(values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.take_along_axis(values, index[..., None], axis=-1)[..., 0]
