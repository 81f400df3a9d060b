"""Ours, and the read of one host after another: both evaluate the same rules over what they have read."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.evaluate import to_ms
from airflow_provider_restrack.alert.fleet import evaluate_fleet
from airflow_provider_restrack.alert.observe import StoreReader, observe
from airflow_provider_restrack.alert.records import Book
from airflow_provider_restrack.store.read import read_hosts, read_samples
from benchmarks.alerting.works import END, KEYSPACE, NEWEST_RULES, RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow_provider_restrack.alert.observe import SampleReader
    from airflow_provider_restrack.alert.rules import AlertRule
    from airflow_provider_restrack.alert.time_to_limit import Forecasts
    from benchmarks.alerting.prometheus import Firing

    Evaluate = Callable[[Any], Firing]


_NEW = Book()


@dataclass(frozen=True, slots=True)
class Run:
    """What reading and evaluating the fleet took together, what evaluating the same from memory takes alone,
    and what fires at the end; CPU is that of this process.
    """

    wall_seconds: float
    evaluate_seconds: float
    cpu_seconds: float
    evaluate_cpu_seconds: float
    firing: Firing


class SequentialReader:
    """Asks for one host, waits, and asks for the next; rows are dicts."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def hosts(self) -> Sequence[str]:
        """Return the hosts of ``latest_metrics``."""
        return read_hosts(self._session, KEYSPACE)

    def fetch(
        self, hosts: Sequence[str], since: datetime, until: datetime, columns: Sequence[str]
    ) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return rows of ``system_metrics``."""
        return {host: read_samples(self._session, KEYSPACE, host, since, until, columns) for host in hosts}

    def fetch_days_to_limit(self, metrics: Sequence[str], hosts: Sequence[str], now: datetime) -> Forecasts:
        """Return nothing: no rule of the benchmark asks."""
        raise NotImplementedError


class RememberingReader:
    """Passes questions on, and answers them a second time from memory."""

    def __init__(self, reader: SampleReader) -> None:
        self._reader = reader
        self._answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._reader, name)

        def ask(*arguments: Any) -> Any:
            question = f"{name}{arguments}"
            if question not in self._answers:
                self._answers[question] = method(*arguments)
            return self._answers[question]

        return ask


READERS: dict[str, Callable[[Any], SampleReader]] = {
    "restrack": lambda session: StoreReader(session, KEYSPACE),
    "sequential": SequentialReader,
}


def run_once(session: Any, contender: str, evaluate: Evaluate) -> Run:
    """Read the whole fleet and evaluate it, and evaluate it once more from memory."""
    reader = RememberingReader(READERS[contender](session))
    firing, seconds, cpu_seconds = _time(evaluate, reader)
    _, evaluate_seconds, evaluate_cpu_seconds = _time(evaluate, reader)
    return Run(seconds, evaluate_seconds, cpu_seconds, evaluate_cpu_seconds, firing)


def _time(evaluate: Evaluate, reader: RememberingReader) -> tuple[Firing, float, float]:
    began, cpu = time.perf_counter(), time.process_time()
    firing = evaluate(reader)
    return firing, time.perf_counter() - began, time.process_time() - cpu


def evaluate_history(reader: SampleReader, book: Book = _NEW) -> Firing:
    """Evaluate as ``EvaluateAlertsOperator`` does, going on from what was recorded before."""
    found = evaluate_fleet(RULES, reader, None, book, to_ms(END))
    records = {**book.records, **{one.key: one for one in found.records}}
    return {(key.rule, key.host, key.device or None) for key, one in records.items() if one.open}


def go_on(session: Any) -> Evaluate:
    """Return an evaluation that goes on from one a minute before, as every one but the first does."""
    before = to_ms(END) - 60_000
    found = evaluate_fleet(RULES, StoreReader(session, KEYSPACE), None, Book(), before)
    return partial(evaluate_history, book=Book(found.horizon_ms, {one.key: one for one in found.records}))


def evaluate_newest(reader: SampleReader, rules: Sequence[AlertRule] = NEWEST_RULES) -> Firing:
    """Evaluate rules without history as ``ThresholdSensor`` does."""
    found = observe(rules, reader, None, END)
    return {(breach.rule.name, breach.host, breach.device) for breach in found.breaches}
