"""Reads metrics that Telegraf writes with ``data_format = "json"``, one or a batch in a record.

The format: https://docs.influxdata.com/telegraf/v1/data_formats/output/json/
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_provider_restrack.load.errors import ConfigurationError, RejectError
from airflow_provider_restrack.load.formats.points import build_row, record_millis, to_instant

if TYPE_CHECKING:
    from collections.abc import Mapping

_UNITS_NS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_DURATION = re.compile(r"([1-9][0-9]{0,17})(ns|us|µs|ms|s)")


class Metric(msgspec.Struct, gc=False):
    """A metric as Telegraf's serializer writes it; ``json_timestamp_format`` makes the time a text."""

    name: str
    fields: dict[str, Any]
    tags: dict[str, str] = {}
    timestamp: int | str | None = None


class _Message(msgspec.Struct, gc=False):
    metrics: list[Metric] | msgspec.UnsetType = msgspec.UNSET


_decode_message = msgspec.json.Decoder(_Message).decode
_decode_metric = msgspec.json.Decoder(Metric).decode


@dataclass(frozen=True, slots=True)
class TelegrafFormat:
    """Telegraf's JSON.

    :ivar unit_ns: nanoseconds in a unit of ``timestamp``.
    """

    unit_ns: int = _UNITS_NS["s"]
    name: str = "telegraf"

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> TelegrafFormat:
        """Return the format with its options."""
        return cls(parse_units(options.get("json_timestamp_units", "1s")))

    def parse(self, value: bytes, record: Any) -> list[dict[str, Any]]:
        """Return a row for each metric; one without a time takes Kafka's.

        :raises RejectError: with the place in the JSON, if it is no metric or batch of Telegraf's.
        """
        try:
            metrics = _decode_message(value).metrics
            if metrics is msgspec.UNSET:
                metrics = [_decode_metric(value)]
            return [build_row(one.name, one.tags, one.fields, self._time_of(one, record)) for one in metrics]
        except RejectError:
            raise
        except RecursionError:
            raise RejectError("telegraf: JSON is nested too deeply") from None
        except (ValueError, OverflowError) as error:  # msgspec's own errors and UnicodeDecodeError among them
            raise RejectError(f"telegraf: {error}") from error

    def _time_of(self, metric: Metric, record: Any) -> Any:
        if metric.timestamp is None:
            return record_millis(record)
        if isinstance(metric.timestamp, str):
            return metric.timestamp
        return to_instant(metric.timestamp, self.unit_ns)


def parse_units(value: Any) -> int:
    """Return the nanoseconds of ``json_timestamp_units``, cut down to a power of ten as Telegraf does.

    :raises ConfigurationError: if it is no duration such as ``1ms``.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigurationError(
            f"json_timestamp_units of format 'telegraf' is {value!r}: give what Telegraf's own configuration"
            " has, such as '1s', '1ms', '1us' or '1ns'"
        )
    return int(10 ** (len(str(int(match[1]) * _UNITS_NS[match[2]])) - 1))
