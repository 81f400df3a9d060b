"""A round over rows and a lease in memory: what is recorded, told and remembered, and in which order."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from airflow_provider_restrack.alert.messages import TellPolicy
from airflow_provider_restrack.alert.records import Silence
from airflow_provider_restrack.alert.rounds import Round, RoundPolicy, run_round
from airflow_provider_restrack.alert.rules import parse_rules
from tests.unit.alert.fleet_fakes import MINUTE_MS, MemoryReader, at_minute, rows_of
from tests.unit.alert.round_fakes import MemoryLease

RULES = parse_rules({"name": "cpu", "metric": "cpu_usage", "op": ">", "threshold": 80, "for": "2m"})
BUSY = {"db-1": rows_of([50, 95, 95, 95, 95, 40, 40])}
POLICY = RoundPolicy(RULES, None, 0, 900.0, ("mail", "pager"), TellPolicy())


@dataclass
class Post:
    """Takes messages; those to the receivers in ``closed`` it does not."""

    lease: MemoryLease
    closed: set[str] = field(default_factory=set)
    told: list[tuple[str, str]] = field(default_factory=list)

    def send(self, message: Any, words: Any) -> None:
        if message.receiver in self.closed:
            raise ConnectionError("no mail today")
        self.lease.calls.append(f"send {message.receiver}")
        self.told += [(message.receiver, alert["kind"]) for alert in words["alerts"]]


def run(lease: MemoryLease, post: Post, minute: float, policy: RoundPolicy = POLICY, **options: Any) -> Round:
    reader = MemoryReader(options.pop("rows", BUSY))
    silences = options.pop("silences", ())
    return run_round(policy, lease, reader, silences, post.send, at_minute(minute), **options)


@pytest.fixture
def lease() -> MemoryLease:
    return MemoryLease()


@pytest.fixture
def post(lease: MemoryLease) -> Post:
    return Post(lease)


def test_it_is_recorded_before_anybody_is_told_and_remembered_after(lease: MemoryLease, post: Post) -> None:
    done = run(lease, post, 4)

    assert lease.calls == ["record 1", "history", "send mail", "mark mail", "send pager", "mark pager"]
    assert (done.written, dict(done.open), done.failed) == (7, {"warning": 1}, ())
    assert [move.kind for move in done.evaluation.transitions] == ["fired"]


def test_another_round_tells_nothing_again_and_the_end_once(lease: MemoryLease, post: Post) -> None:
    for minute in (4, 4, 4.5, 6, 6):
        run(lease, post, minute)

    assert post.told == [
        ("mail", "firing"), ("pager", "firing"), ("mail", "resolved"), ("pager", "resolved"),
    ]  # fmt: skip


def test_who_did_not_take_a_message_gets_it_in_the_next_round(lease: MemoryLease, post: Post) -> None:
    post.closed = {"mail"}
    failed = run(lease, post, 4).failed
    post.closed = set()
    run(lease, post, 4)

    (alert,) = lease.book.records.values()
    assert failed == (f"mail: ConnectionError: no mail today (alerts {alert.alert_id})",)
    assert post.told == [("pager", "firing"), ("mail", "firing")]


def test_a_round_that_was_killed_after_recording_is_told_by_the_next(lease: MemoryLease, post: Post) -> None:
    def die(message: Any, words: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_round(POLICY, lease, MemoryReader(BUSY), (), die, at_minute(4))
    done = run(lease, post, 4)

    assert done.evaluation.transitions == ()
    assert post.told == [("mail", "firing"), ("pager", "firing")]


def test_an_evaluator_that_lost_its_lease_tells_nobody(lease: MemoryLease, post: Post) -> None:
    lease.lost = True

    with pytest.raises(RuntimeError, match="the lease has ended"):
        run(lease, post, 4)
    assert post.told == []


def test_samples_within_the_delay_are_left_to_the_next_round(lease: MemoryLease, post: Post) -> None:
    policy = replace(POLICY, delay_ms=2 * MINUTE_MS)

    assert run(lease, post, 4, policy).evaluation.transitions == ()
    assert len(run(lease, post, 5, policy).evaluation.transitions) == 1


def test_a_silence_is_kept(lease: MemoryLease, post: Post) -> None:
    import uuid

    silence = Silence(uuid.UUID(int=1), 0, at_minute(60), host="db-*")
    done = run(lease, post, 4, silences=[silence])

    assert (done.plan.reasons, post.told) == ({"silence": 1}, [])


def test_a_loader_that_lags_is_an_error_of_the_pipeline(lease: MemoryLease, post: Post) -> None:
    policy = replace(POLICY, stale_after_s=60.0)

    assert run(lease, post, 6, policy).evaluation.pipeline_error is None
    error = run(lease, post, 6, policy, oldest_waiting_ms=at_minute(2)).evaluation.pipeline_error
    assert error is not None
    assert "the loader lags" in error


def test_the_words_have_the_current_value_and_the_runs_address(lease: MemoryLease) -> None:
    words: list[Any] = []
    policy = replace(POLICY, url="http://ui/run", receivers=("mail",))
    rows = {"db-1": rows_of([50, 95, 95, 95, 91])}
    run_round(policy, lease, MemoryReader(rows), (), lambda _, said: words.append(said), at_minute(4))

    (alert,) = words[0]["alerts"]
    assert (alert["current"], alert["peak"], alert["url"]) == (91, 95, "http://ui/run")
