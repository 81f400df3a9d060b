"""Tests of rules as data: series of samples, when they are evaluated, and what must come of it.

They run through the same evaluation as a fleet, the book of each evaluation carried to the next.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_restrack.alert.durations import parse_duration
from airflow_provider_restrack.alert.evaluate import from_ms, to_ms
from airflow_provider_restrack.alert.fleet import DEFAULT_STALE_AFTER_S, Evaluation, evaluate_fleet
from airflow_provider_restrack.alert.records import Book
from airflow_provider_restrack.alert.rule_test_series import (
    LateSamples,
    RuleTestError,
    as_mapping,
    build_samples,
    check_keys,
)
from airflow_provider_restrack.alert.rules import AlertRule, RuleError, parse_rules

if TYPE_CHECKING:
    from airflow_provider_restrack.alert.records import AlertTransition

DEFAULT_START = datetime(2026, 1, 1, tzinfo=UTC)
# An evaluation goes on from the last one, but reads at most a day back.
_LONGEST_STEP_MS = 12 * 3600 * 1000
_TEST_KEYS = (
    *("name", "interval", "start", "series", "order", "hosts", "evaluate_every", "evaluate_at"),
    *("evaluation_delay", "loaded_until", "stale_after", "removed", "check", "expect"),
)
_EXPECT_KEYS = (
    *("at", "rule", "host", "device", "condition", "kind", "severity", "since", "value", "peak", "reason"),
)
_TRANSITIONS = ("fired", "escalated", "deescalated", "resolved")
# Told at the time of the evaluation that finds it, and compared only where a test speaks of it.
_OPTIONAL_KINDS = {"flapping": "flapping", "settled": "flapping", "pipeline": "pipeline"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one test: no problems, or each difference as a sentence."""

    name: str
    problems: tuple[str, ...]


def run_tests(data: object) -> list[Outcome]:
    """Run a file of rule tests, already read from YAML: ``rules`` and ``tests``.

    :raises RuleTestError: if the file cannot be understood; RuleError if its rules cannot.
    """
    whole = as_mapping(data, "the file")
    check_keys(whole, ("rules", "tests"), "the file")
    rules = parse_rules(whole.get("rules", []))
    tests = whole.get("tests")
    if not isinstance(tests, Sequence) or isinstance(tests, str) or not tests:
        raise RuleTestError("tests is missing or empty: give a list of tests")
    return [run_test(rules, as_mapping(test, f"tests[{n}]"), f"tests[{n}]") for n, test in enumerate(tests)]


def run_test(rules: Sequence[AlertRule], test: Mapping[str, Any], where: str) -> Outcome:
    """Run one test and tell how what was found differs from what it expects.

    :raises RuleTestError: if the test cannot be understood.
    """
    name = str(test.get("name") or where)
    try:
        check_keys(test, _TEST_KEYS, name)
        start = _read_start(test.get("start"))
        wanted = [_read_expected(rules, as_mapping(one, "expect"), start) for one in test.get("expect") or ()]
        checked = _read_checked(test, wanted)
        run = _Run(rules, test, start)
    except (RuleError, ValueError) as error:
        raise RuleTestError(f"{name}: {error}") from error
    checked = {_OPTIONAL_KINDS.get(one["kind"]) for one in wanted} | set(test.get("check") or ())
    found = [one for one in run.run() if _OPTIONAL_KINDS.get(one["kind"]) in {None, *checked}]
    return Outcome(name, tuple(_compare(wanted, found, start)))


def _read_checked(test: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]) -> set[str | None]:
    """Return what is compared: transitions (None), and what the test names or expects any of."""
    named = test.get("check") or ()
    for one in named:
        if one not in _OPTIONAL_KINDS.values():
            allowed = ", ".join(sorted(set(_OPTIONAL_KINDS.values())))
            raise RuleTestError(f"check {one!r} is not known; allowed: {allowed}")
    return {None, *named, *(_OPTIONAL_KINDS.get(one["kind"]) for one in wanted)}


class _Run:
    """The evaluations of one test, each going on from the book of the one before."""

    def __init__(self, rules: Sequence[AlertRule], test: Mapping[str, Any], start: datetime) -> None:
        self._rules, self._start_ms = rules, to_ms(start)
        self._samples: LateSamples = build_samples(test, start)
        self._hosts: Sequence[str] | None = test.get("hosts")
        self._delay_ms = self._span(test.get("evaluation_delay", 0))
        self._stale_after_s = parse_duration(test.get("stale_after", DEFAULT_STALE_AFTER_S))
        self._loaded = sorted(
            (self._time(at), self._time(until))
            for at, until in as_mapping(test.get("loaded_until") or {}, "loaded_until").items()
        )
        self._removed = [_read_removed(one, self._time) for one in test.get("removed") or ()]
        self._times = self._plan_times(test)
        self._book = Book(horizon_ms=self._start_ms)

    def run(self) -> list[dict[str, Any]]:
        """Return all that the evaluations found."""
        return [one for time in self._times for one in self._evaluate(time)]

    def _plan_times(self, test: Mapping[str, Any]) -> list[int]:
        """Return when to evaluate: when the test says, else once, after the last sample."""
        end = to_ms(self._samples.end) + self._delay_ms
        if test.get("evaluate_at") is not None:
            return sorted(self._time(one) for one in test["evaluate_at"])
        every = test.get("evaluate_every")
        step = _LONGEST_STEP_MS if every is None else self._span(every)
        if step <= 0:
            raise RuleTestError(f"evaluate_every {every!r} must be longer than 0")
        return [*range(self._start_ms + step, end, step), end]

    def _evaluate(self, time: int) -> list[dict[str, Any]]:
        self._samples.now = from_ms(time)
        rules = [rule for rule in self._rules if not self._is_removed("rule", rule.name, time)]
        names = self._samples.hosts() if self._hosts is None else self._hosts
        hosts = [host for host in names if not self._is_removed("host", host, time)]
        found = evaluate_fleet(
            rules,
            self._samples,
            hosts,
            self._book,
            time - self._delay_ms,
            loaded_until_ms=next((until for at, until in reversed(self._loaded) if at <= time), None),
            stale_after_s=self._stale_after_s,
        )
        events = [_describe_transition(one) for one in found.transitions]
        events += [*self._find_flapping(found, time), *_find_pipeline(found, time)]
        changed = {record.key: record for record in found.records}
        horizon = max(found.horizon_ms, self._book.horizon_ms or 0)
        self._book = Book(horizon, {**self._book.records, **changed})
        return events

    def _find_flapping(self, found: Evaluation, time: int) -> list[dict[str, Any]]:
        events = []
        for record in found.records:
            before = self._book.records.get(record.key)
            if record.flapping != (before is not None and before.flapping):
                kind = "flapping" if record.flapping else "settled"
                events.append({"at": time, "kind": kind} | _describe_key(record.key))
        return events

    def _is_removed(self, what: str, name: str, time: int) -> bool:
        return any((what, name) == (one[0], one[1]) and time >= one[2] for one in self._removed)

    def _time(self, value: object) -> int:
        return self._start_ms + self._span(value)

    @staticmethod
    def _span(value: object) -> int:
        return round(parse_duration(value) * 1000)


def _describe_transition(one: AlertTransition) -> dict[str, Any]:
    return {"at": one.at_ms, "kind": one.kind} | _describe_key(one.key) | {
        "severity": one.severity, "since": one.since_ms, "value": one.value, "peak": one.peak,
        "reason": one.reason,
    }  # fmt: skip


def _describe_key(key: Any) -> dict[str, Any]:
    return {"rule": key.rule, "host": key.host, "device": key.device or None, "condition": key.condition}


def _find_pipeline(found: Evaluation, time: int) -> list[dict[str, Any]]:
    if found.pipeline_error is None:
        return []
    return [{"at": time, "kind": "pipeline", "reason": found.pipeline_error}]


def _read_removed(value: object, read_time: Any) -> tuple[str, str, int]:
    """Return what is removed (a rule or a host), its name and when."""
    one = as_mapping(value, "removed")
    check_keys(one, ("rule", "host", "at"), "removed")
    what = "rule" if "rule" in one else "host"
    if what not in one or "at" not in one:
        raise RuleTestError("removed needs `rule` or `host`, and `at`")
    return what, str(one[what]), read_time(one["at"])


def _read_start(value: object) -> datetime:
    if value is None:
        return DEFAULT_START
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _read_expected(rules: Sequence[AlertRule], one: Mapping[str, Any], start: datetime) -> dict[str, Any]:
    """Return what is expected with its times in ms; what a test leaves out is not compared."""
    check_keys(one, _EXPECT_KEYS, "expect")
    kinds = (*_TRANSITIONS, *_OPTIONAL_KINDS)
    if "at" not in one or one.get("kind") not in kinds:
        raise RuleTestError(f"expect needs `at` and `kind`: one of {', '.join(kinds)}")
    defaults = {"rule": rules[0].name, "host": "host", "device": None, "condition": "threshold"}
    if one.get("condition") == "no_data":
        del defaults["device"]
    wanted = dict(one) if one["kind"] == "pipeline" else defaults | dict(one)
    for key in ("at", "since"):
        if key in wanted:
            wanted[key] = to_ms(start) + round(parse_duration(wanted[key]) * 1000)
    return wanted


def _compare(
    wanted: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], start: datetime
) -> list[str]:
    left = list(found)
    problems = []
    for one in wanted:
        match = next((two for two in left if all(_fits(key, one[key], two.get(key)) for key in one)), None)
        if match is None:
            problems.append(f"missing: {_describe(one, start)}")
        else:
            left.remove(match)
    return problems + [f"not expected: {_describe(one, start)}" for one in left]


def _fits(key: str, wanted: Any, found: Any) -> bool:
    """Whether a value is the expected one; of a pipeline's error a part is enough, as of nothing else."""
    if key in {"value", "peak"} and wanted is not None and found is not None:
        return math.isclose(float(wanted), float(found), rel_tol=1e-9, abs_tol=1e-9)
    if key == "reason" and wanted and found:
        return str(wanted) in str(found)
    return bool(wanted == found)


def _describe(one: Mapping[str, Any], start: datetime) -> str:
    times = {key: f"{(one[key] - to_ms(start)) / 1000:g}s" for key in ("at", "since") if key in one}
    shown = {key: value for key, value in (dict(one) | times).items() if value not in {None, ""}}
    return ", ".join(f"{key} {value}" for key, value in shown.items())
