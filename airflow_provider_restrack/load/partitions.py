"""Reads the argument ``partitions``: which partitions of its topics a task reads, however it is rendered."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from airflow_provider_restrack.load.errors import ConfigurationError
from airflow_provider_restrack.load.offsets import Partition

if TYPE_CHECKING:
    from collections.abc import Iterable

Choice: TypeAlias = "tuple[int, ...] | Mapping[str, tuple[int, ...]]"


def parse_partitions(value: object) -> Choice | None:
    """Return the numbers, for every topic or by topic; None and empty text mean that the group decides.

    :param value: ``[0, 3]``, a single number, a mapping of topics to these, or any of them as a template
        renders it to text.
    :raises ConfigurationError: if it is something else, empty, or names a partition twice.
    """
    if isinstance(value, str):
        value = _parse_text(value)
    if value is None:
        return None
    if not isinstance(value, Mapping):
        return _numbers(value, value)
    if not value:
        raise _wrong(value)
    return {str(topic): _numbers(numbers, value) for topic, numbers in value.items()}


def check_topics_named(choice: Choice | None, topics: Sequence[str]) -> None:
    """Refuse a mapping that names other topics than are read.

    :raises ConfigurationError: naming them.
    """
    if isinstance(choice, Mapping) and set(choice) != set(topics):
        raise ConfigurationError(
            f"partitions names the topics {sorted(choice)}, and topics is {sorted(topics)}: name each of them"
        )


def choose_partitions(choice: Choice, found: Sequence[Partition]) -> list[Partition]:
    """Return the chosen ones of the partitions that exist.

    :raises ConfigurationError: if one of them does not exist.
    """
    topics = dict.fromkeys(partition.topic for partition in found)
    wanted = [Partition(topic, number) for topic in topics for number in numbers_of(choice, topic)]
    missing = [partition for partition in wanted if partition not in set(found)]
    if missing:
        topic, number = missing[0]
        count = sum(partition.topic == topic for partition in found)
        raise ConfigurationError(
            f"partitions names {topic}[{number}], which does not exist: {topic} has {count}, from 0 on"
        )
    return wanted


def numbers_of(choice: Choice, topic: str) -> Iterable[int]:
    """Return the numbers chosen of one topic."""
    return choice[topic] if isinstance(choice, Mapping) else choice


def _parse_text(text: str) -> object:
    if not text.strip():
        return None
    try:
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        raise _wrong(text) from None


def _numbers(value: object, whole: object) -> tuple[int, ...]:
    numbers = [value] if isinstance(value, int | str) else value
    if not isinstance(numbers, Sequence) or isinstance(numbers, bytes) or not numbers:
        raise _wrong(whole)
    try:
        # bool is an int, and float would be cut off
        made = tuple(int(one) for one in numbers if isinstance(one, int | str) and not isinstance(one, bool))
    except ValueError:
        raise _wrong(whole) from None
    if len(made) != len(numbers) or min(made) < 0:
        raise _wrong(whole)
    twice = [number for number, count in Counter(made).items() if count > 1]
    if twice:
        raise ConfigurationError(f"partitions is {whole!r}: it names {twice[0]} twice")
    return made


def _wrong(value: object) -> ConfigurationError:
    return ConfigurationError(
        f"partitions is {value!r}: give a list of numbers from 0 on such as [0, 3], a mapping such as"
        " {'system_metrics': [0, 3]}, or None to share the partitions with the other tasks of the group"
    )
