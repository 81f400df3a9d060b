"""Poison among good records: every good row is stored, every poison record is kept, and no run fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.faults.poison import make_odd, make_poison

if TYPE_CHECKING:
    from tests.faults.ledger import Record
    from tests.faults.rig import Rig

pytestmark = [pytest.mark.kafka, pytest.mark.cassandra, pytest.mark.slow]


def test_poison_is_put_aside_and_what_lies_between_is_stored(rig: Rig) -> None:
    poison = make_poison()
    records = [*poison.values(), *make_odd(rig.ledger), *rig.ledger.make(1500)]
    rig.random.shuffle(records)
    rig.send_records(records)

    outcome = rig.start().finish()

    assert outcome.result is not None, f"{rig}: {outcome.log}"
    rig.check_commits()
    check_dead_letters(rig, poison)
    assert outcome.result["dead_letters"] == len(poison)
    rig.check()


def test_a_task_killed_among_poison_loses_no_dead_letter(rig: Rig) -> None:
    poison = make_poison()
    for _ in range(2):
        records = [*poison.values(), *rig.ledger.make(1000)]
        rig.random.shuffle(records)
        rig.start_busy_with(records).kill()
    rig.run_to_end()

    check_dead_letters(rig, poison)
    rig.check()


def check_dead_letters(rig: Rig, poison: dict[str, Record]) -> None:
    """Check that every poison record is in the dead letters, unchanged, with its origin, and nothing else."""
    wanted = {
        (one.partition, one.offset): (one.record.key, one.record.value)
        for one in rig.ledger.sent
        if one.record.row is None
    }
    found = {}
    for message in rig.read_dead_letters():
        headers = dict(message.headers())
        assert headers["__connect.errors.topic"].decode() == rig.topic
        partition, offset = (int(headers[f"__connect.errors.{name}"]) for name in ("partition", "offset"))
        found[partition, offset] = (message.key(), message.value())
    missing = [wanted[place][0] for place in wanted.keys() - found.keys()]
    extra = [found[place][0] for place in found.keys() - wanted.keys()]
    assert (missing, extra) == ([], []), f"{rig}: missing {missing}, not poison {extra}"
    changed = [wanted[place][0] for place in wanted if wanted[place] != found[place]]
    assert changed == [], f"{rig}: changed {changed}"
    assert {key for key, _ in wanted.values()} == {name.encode() for name in poison}
