"""One severity of a rule folded over the values of one instance: the innermost loop of evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from airflow_provider_restrack.alert.evaluate import COMPARE, JITTER_SHARE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_restrack.alert.no_data import Pause
    from airflow_provider_restrack.alert.pace import Pace
    from airflow_provider_restrack.alert.rules import AlertRule


@dataclass(frozen=True, slots=True)
class Change:
    """One level became active or inactive; ``value`` is None if missing samples ended it."""

    at_ms: int
    level: int
    active: bool
    since_ms: int
    value: float | None


@dataclass(slots=True)
class Fold:
    """How one level ended: its changes, whether it is active, and the start of the run that goes on."""

    active: bool
    changes: list[Change] = field(default_factory=list)
    run_ms: int | None = None
    open_start: bool = False


@dataclass(frozen=True, slots=True)
class LevelPlan:
    """One level of a rule, and where its fold begins.

    :ivar active: whether it is active at ``after_ms``; only later samples change it.
    :ivar decided_ms: a run that ends before this was decided before.
    :ivar start_known: the first value is known to begin its run.
    :ivar can_read_more: older samples than the first may exist.
    :ivar pauses: where missing samples break its runs, or end it, ascending.
    """

    rule: AlertRule
    index: int
    active: bool
    after_ms: int
    decided_ms: int
    start_known: bool
    can_read_more: bool
    pace: Pace
    pauses: tuple[Pause, ...] = ()


def fold_level(plan: LevelPlan, times: Sequence[int], values: Sequence[float]) -> Fold:
    """Return how a level fares over the values; their times are ascending."""
    fold = Fold(plan.active)
    if not values or _says_nothing(plan, values):
        _end_silent(plan, fold, plan.pauses)
        return fold
    _Loop(plan, fold, times, values).run()
    return fold


def _says_nothing(plan: LevelPlan, values: Sequence[float]) -> bool:
    """Whether no value can change the level: told by one extreme, which costs far less than a loop."""
    if plan.active and plan.pauses:
        return False
    op, limit = plan.rule.op, _limit(plan, plan.active)
    if op in {"==", "!="}:
        equal = limit in values
        differs = values.count(limit) < len(values)
        hit = equal if (op == "==") is not plan.active else differs
        return not hit
    high = (op in {">", ">="}) is not plan.active
    return COMPARE[op](max(values) if high else min(values), limit) is plan.active


def _limit(plan: LevelPlan, active: bool) -> float:
    """Return what a value is compared with.

    A severity is clear only where those above it are, so that what is active can be told by the highest.
    """
    levels = plan.rule.levels
    if not active:
        return float(levels[plan.index].threshold)
    limits = [float(level.clear_threshold) for level in levels[plan.index :]]
    return min(limits) if plan.rule.op in {">", ">="} else max(limits)


def _end_silent(plan: LevelPlan, fold: Fold, pauses: Sequence[Pause]) -> None:
    """End what is active at the first pause that does so after the last transition."""
    for time, ends in pauses:
        if ends and fold.active and time > plan.after_ms:
            fold.active = False
            fold.changes.append(Change(time, plan.index, active=False, since_ms=time, value=None))


class _Loop:
    """The state of a fold. ``start`` is the index where the run begins, -1 if there is none."""

    def __init__(self, plan: LevelPlan, fold: Fold, times: Sequence[int], values: Sequence[float]) -> None:
        rule = plan.rule
        self.plan, self.fold, self.times, self.values = plan, fold, times, values
        self.needs = (rule.for_seconds * 1000, rule.clear_for_seconds * 1000)
        self.samples = (1 if rule.aggregate else rule.min_samples, 1)
        self.start, self.covered = -1, 0.0
        self.pauses = list(plan.pauses)

    def run(self) -> None:
        """Fold all values, and the pauses between and after them."""
        tests = (self._test(active=False), self._test(active=True))
        fold, pauses = self.fold, self.pauses
        test = tests[fold.active]
        for index, value in enumerate(self.values):
            if pauses and pauses[0].at_ms < self.times[index]:
                self._pass(index)
                test = tests[fold.active]
            if not test(value):
                if self.start >= 0:
                    self._end_run(index - 1)
                continue
            self._extend(index)
            if self._lasts(index):
                self._flip(index, value)
                test = tests[fold.active]
        if self.start >= 0:
            self._note_open_start(len(self.times) - 1, flips=False)
            fold.run_ms = self.times[self.start]
        if pauses:
            fold.run_ms = None
            _end_silent(self.plan, fold, pauses)

    def _test(self, *, active: bool) -> Callable[[float], bool]:
        compare, limit = COMPARE[self.plan.rule.op], _limit(self.plan, active)
        if active:
            return lambda value: not compare(value, limit)
        return lambda value: compare(value, limit)

    def _pass(self, index: int) -> None:
        time = self.times[index]
        passed = [one for one in self.pauses if one.at_ms < time]
        del self.pauses[: len(passed)]
        if self.start >= 0:
            self._end_run(index - 1)
        _end_silent(self.plan, self.fold, passed)

    def _extend(self, index: int) -> None:
        if self.start < 0:
            self.start, self.covered = index, 0.0
            return
        if not self.needs[self.fold.active] and self.samples[self.fold.active] < 2:
            return
        step = self.times[index] - self.times[index - 1]
        gaps = self.plan.pace.gaps_at(self.plan.rule, self.times[index])
        if step > gaps.max_gap_ms:
            self._end_run(index - 1)
            self.start, self.covered = index, 0.0
        else:
            self.covered += min(step, gaps.reach_ms)

    def _lasts(self, index: int) -> bool:
        """Whether the run is long enough, covered enough, of enough samples, and not decided before."""
        time, active = self.times[index], self.fold.active
        if time <= self.plan.after_ms or index - self.start + 1 < self.samples[active]:
            return False
        need = self.needs[active]
        duration = time - self.times[self.start]
        if not need:
            return True
        if duration < need * (1 - JITTER_SHARE):
            return False
        due = need - JITTER_SHARE * min(need, self.plan.pace.spacing_at(time))
        span = min(need, max(duration, due))
        return duration >= due and self.covered >= self.plan.rule.min_coverage * span

    def _flip(self, index: int, value: float) -> None:
        self._note_open_start(index, flips=True)
        fold = self.fold
        fold.active = not fold.active
        since = self.times[self.start]
        fold.changes.append(Change(self.times[index], self.plan.index, fold.active, since, value))
        self.start = -1

    def _end_run(self, last: int) -> None:
        self._note_open_start(last, flips=False)
        self.start = -1

    def _note_open_start(self, last: int, *, flips: bool) -> None:
        """Note whether older samples could change what the run from ``start`` to ``last`` decides."""
        plan, need = self.plan, self.needs[self.fold.active]
        if self.fold.active and not need:
            return
        if not flips and self.times[last] <= plan.decided_ms:
            return
        begin = self.times[self.start] - round(plan.rule.window_seconds * 1000)
        thin = bool(need) and plan.can_read_more and not plan.pace.knows(begin)
        if thin or (self.start == 0 and not plan.start_known):
            self.fold.open_start = True
