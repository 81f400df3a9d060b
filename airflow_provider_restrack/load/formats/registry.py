"""Reads the argument ``format``, and opens the format that it names with its options."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_provider_restrack.load.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_restrack.load.policy import LoadPolicy

_OPTIONS: dict[str, frozenset[str]] = {
    "json": frozenset(),
    "telegraf": frozenset({"json_timestamp_units"}),
    "influx": frozenset({"precision"}),
    "avro": frozenset({"schema"}),
}
_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_FORMS = (
    f"give one of {', '.join(_OPTIONS)}, a mapping such as"
    ' {"name": "influx", "precision": "s"}, or the path of a function such as my_package.module.parse'
)


class Format(Protocol):
    """Makes rows of a record's value.

    :ivar name: how the argument ``format`` calls it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102 - see the class

    def parse(self, value: bytes, record: Any) -> list[dict[str, Any]]:
        """Return a mapping of names to values for each row, with values that JSON can write.

        :param record: gives Kafka's record time, and what else a function of the user's wants to know.
        :raises RejectError: if the value is none of the format; whatever the bytes, only this is raised of
            them.
        :raises SchemaRegistryError: if the schema is not to be had now.
        """


@dataclass(frozen=True, slots=True)
class FormatChoice:
    """What ``format`` asks for: one of the names, or a function or the path of one."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    function: Callable[..., Any] | None = field(default=None, repr=False)


def parse_format(value: Any) -> FormatChoice:
    """Read ``format``: a name, an import path, a function, a mapping, or text that a template made of one.

    What it has read already is returned as it is.

    Nothing is imported.

    :raises ConfigurationError: if it is none of these, or has an option that its format lacks.
    """
    if isinstance(value, FormatChoice):
        return value
    if callable(value):
        return FormatChoice(_name_of(value), {}, value)
    given = _read_object(value) if isinstance(value, str) and value.lstrip().startswith("{") else value
    if isinstance(given, str):
        given = {"name": given}
    if not isinstance(given, Mapping) or not isinstance(given.get("name"), str):
        raise ConfigurationError(f"format is {value!r}: {_FORMS}")
    name = given["name"].strip()
    choice = FormatChoice(name, {key: option for key, option in given.items() if key != "name"})
    if name not in _OPTIONS and not _PATH.fullmatch(name):
        raise ConfigurationError(f"format is {value!r}: {_FORMS}")
    _check_options(choice)
    return choice


def open_format(policy: LoadPolicy, config: Mapping[str, Any]) -> Format | None:
    """Return the format of a policy; None for JSON, which the decoder reads without one.

    :param config: settings of the Kafka connection, which name the schema registry.
    :raises ConfigurationError: if a function cannot be imported, or a library or setting is missing.
    """
    choice = parse_format(policy.format)
    if choice.name == "json":
        return None
    if choice.name == "telegraf":
        from airflow_provider_restrack.load.formats.telegraf import TelegrafFormat

        return TelegrafFormat.of(choice.options)
    if choice.name == "influx":
        from airflow_provider_restrack.load.formats.influx import InfluxFormat

        return InfluxFormat.of(choice.options)
    if choice.name == "avro":
        from airflow_provider_restrack.load.formats.avro import open_avro

        return open_avro(choice.options, config, connection=policy.kafka_connection)
    from airflow_provider_restrack.load.formats.custom import CustomFormat, import_function

    return CustomFormat(choice.name, choice.function or import_function(choice.name))


def _name_of(function: Callable[..., Any]) -> str:
    """Return a name that is the same in every process, as it becomes part of a DAG's version."""
    of = function if hasattr(function, "__qualname__") else type(function)
    return f"{of.__module__}.{of.__qualname__}"


def _read_object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigurationError(f"format is {text!r}: {_FORMS}") from None


def _check_options(choice: FormatChoice) -> None:
    allowed = _OPTIONS.get(choice.name, frozenset())
    unknown = sorted(str(key) for key in set(choice.options) - allowed)
    if unknown:
        takes = f"it takes {', '.join(sorted(allowed))}" if allowed else "it takes none"
        raise ConfigurationError(f"format {choice.name!r} has no option {', '.join(unknown)}: {takes}")
    if "precision" in choice.options:
        from airflow_provider_restrack.load.formats.influx import parse_precision

        parse_precision(choice.options["precision"])
    if "json_timestamp_units" in choice.options:
        from airflow_provider_restrack.load.formats.telegraf import parse_units

        parse_units(choice.options["json_timestamp_units"])
