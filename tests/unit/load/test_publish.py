from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_restrack.load import publish as module
from airflow_provider_restrack.load.errors import (
    ConfigurationError,
    DeliveryError,
    KafkaUnavailableError,
    RecordError,
)
from airflow_provider_restrack.load.publish import PublishPolicy, encode_records, find_not_finite, publish
from tests.unit.load.fakes import FakeProducer, topics

CONFIG = {"bootstrap.servers": "b:1"}
POLICY = PublishPolicy("t", timeout_s=5, connection="my_kafka")
A, B = {"host": "a", "v": 1}, {"host": "b", "v": None}


@pytest.fixture
def producer(monkeypatch: pytest.MonkeyPatch) -> FakeProducer:
    made = FakeProducer()
    monkeypatch.setattr(
        module, "Producer", lambda settings, logger: vars(made).update(settings=settings) or made
    )
    return made


class Lazy:
    """A sequence that is only iterable, as that of a mapped upstream."""

    def __init__(self, *items: Any) -> None:
        self.items = items

    def __iter__(self) -> Any:
        return iter(self.items)


@pytest.mark.parametrize(
    ("records", "hosts"),
    [
        pytest.param([A, B], "ab", id="list"),
        pytest.param(A, "a", id="dict"),
        pytest.param((A,), "a", id="tuple"),
        pytest.param(Lazy([A, B], [], [B]), "abb", id="mapped-upstream"),
        pytest.param(Lazy(A, B), "ab", id="mapped-upstream-of-dicts"),
        pytest.param([[A], B], "ab", id="mixed"),
    ],
)
def test_records_of_every_shape_are_sent_with_their_keys(
    producer: FakeProducer, records: Any, hosts: str
) -> None:
    assert publish(records, POLICY, CONFIG) == len(hosts)
    assert "".join(sent["key"].decode() for sent in producer.sent) == hosts
    assert json.loads(producer.sent[0]["value"]) == A


@pytest.mark.parametrize("records", [[], Lazy(), [[], []]])
def test_no_records_need_no_broker(producer: FakeProducer, records: Any) -> None:
    assert publish(records, POLICY, CONFIG) == 0
    assert not hasattr(producer, "settings")


def test_headers_go_with_every_record(producer: FakeProducer) -> None:
    publish([A, B], PublishPolicy("t", headers={"source": "dag", "n": 1}), CONFIG)  # type: ignore[dict-item]

    assert [sent["headers"] for sent in producer.sent] == [[("source", "dag"), ("n", "1")]] * 2


def test_a_records_own_id_goes_into_a_header_beside_the_others(producer: FakeProducer) -> None:
    publish([A | {"id": "x"}, B | {"id": "y"}], PublishPolicy("t", headers={"n": "1"}, id_field="id"), CONFIG)

    assert [sent["headers"] for sent in producer.sent] == [
        [("n", "1"), ("message_id", "x")],
        [("n", "1"), ("message_id", "y")],
    ]


def test_a_record_without_the_id_that_is_asked_for_is_refused(producer: FakeProducer) -> None:
    with pytest.raises(RecordError, match="lacks its id field 'id'"):
        publish([A], PublishPolicy("t", id_field="id"), CONFIG)

    assert producer.sent == []


NAN = float("nan")


@pytest.mark.parametrize(
    ("records", "words"),
    [
        pytest.param([A, {"host": "b", "v": NAN}], r"record 1 \(host 'b'\): field v is NaN", id="nan"),
        pytest.param([{"host": "b", "v": {NAN}}], r"field v\[0\] is NaN", id="set"),
        pytest.param([{"host": "b", "m": {"x": [1.0, float("inf")]}}], r"field m\.x\[1\] is NaN", id="inf"),
        pytest.param([A, "text"], "record 1 is a str, not a dict", id="text"),
        pytest.param([A, None], "record 1 is a NoneType, not a dict", id="none"),
        pytest.param([[A, [A]]], "record 1 is a list, not a dict", id="lists-of-lists-of-lists"),
        pytest.param([{"v": 1}], "record 0 lacks its key field 'host'", id="no-key"),
        pytest.param([{"host": None}], r"record 0 \(host None\) lacks its key field 'host'", id="null-key"),
        pytest.param([{"host": ""}], "has '' as its key field", id="empty-key"),
        pytest.param([{"host": True}], "has True as its key field", id="truth-as-key"),
        pytest.param([{"host": "a", "v": object()}], r"\(host 'a'\) cannot be written as JSON", id="object"),
        pytest.param([{"host": "a", "v": "\ud800"}], "cannot be written as JSON", id="surrogate"),
        pytest.param([{"host": "\ud800"}], "cannot be written as JSON", id="surrogate-as-key"),
        pytest.param([A, {"host": "big", "v": "x" * 1_000_000}], r"record 1 .*1000\d+ bytes", id="large"),
        pytest.param(None, "records is a NoneType: give a list of dicts", id="nothing"),
        pytest.param("text", "records is a str", id="text-for-all"),
        pytest.param(7, "records is a int", id="number-for-all"),
    ],
)  # fmt: skip
def test_a_record_that_cannot_be_sent_is_named_before_any_is(
    producer: FakeProducer, records: Any, words: str
) -> None:
    with pytest.raises(RecordError, match=words):
        publish(records, POLICY, CONFIG)
    assert producer.sent == []


def test_a_record_that_contains_itself_is_refused(producer: FakeProducer) -> None:
    endless: dict[str, Any] = {"host": "a"}
    endless["self"] = endless

    with pytest.raises(RecordError, match="cannot be written as JSON"):
        publish(endless, POLICY, CONFIG)


def test_the_limit_of_the_connection_is_that_of_a_record(producer: FakeProducer) -> None:
    with pytest.raises(RecordError, match=r"message\.max\.bytes"):
        publish([{"host": "a", "v": "x" * 2000}], POLICY, CONFIG | {"message.max.bytes": 1000})


def test_an_unknown_topic_fails_at_once_with_remedy(producer: FakeProducer) -> None:
    producer.metadata = topics(other=1)

    with pytest.raises(
        ConfigurationError, match=r"'t' does not exist on Kafka b:1 \(connection 'my_kafka'\).*Provision"
    ):
        publish([A], POLICY, CONFIG)
    assert producer.sent == []


def test_an_unreachable_broker_is_named(producer: FakeProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(timeout: float) -> Any:
        assert timeout <= 5
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    monkeypatch.setattr(producer, "list_topics", fail)

    with pytest.raises(
        KafkaUnavailableError, match=r"Kafka b:1 \(connection 'my_kafka'\) did not answer in 5 s"
    ):
        publish([A], POLICY, CONFIG)


def test_undelivered_records_fail_the_call_with_their_count_and_the_first_reason(
    producer: FakeProducer,
) -> None:
    producer.fail_with = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)

    with pytest.raises(
        DeliveryError, match=r"2 of 2 records .*'t'.*b:1.*first reason: record 0 \(host 'a'\): .*[Ll]arge"
    ):
        publish([A, B], POLICY, CONFIG)


def test_records_that_nobody_acknowledges_fail_the_call_and_are_dropped(producer: FakeProducer) -> None:
    producer.deliver = False

    with pytest.raises(DeliveryError, match=r"2 of 2 records .*no acknowledgement came"):
        publish([A, B], POLICY, CONFIG)
    assert producer.purged


def test_a_full_queue_is_waited_for(producer: FakeProducer) -> None:
    producer.refuse_with = [BufferError(), BufferError()]

    assert publish([A, B], POLICY, CONFIG) == 2


def test_a_queue_that_stays_full_fails_within_the_timeout(
    producer: FakeProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(module.clock, "monotonic", lambda: float(next(times)))
    producer.refuse_with = [BufferError()] * 50

    with pytest.raises(DeliveryError, match="queue stayed full"):
        publish([A], POLICY, CONFIG)


def test_a_record_that_the_client_refuses_is_named(producer: FakeProducer) -> None:
    producer.refuse_with = [KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))]

    with pytest.raises(DeliveryError, match=r"2 of 2 records .*record 0 \(host 'a'\)"):
        publish([A, B], POLICY, CONFIG)


def test_a_timeout_of_airflow_drops_what_is_unsent(producer: FakeProducer) -> None:
    class AirflowTaskTimeout(BaseException):
        pass

    producer.refuse_with = [AirflowTaskTimeout()]  # type: ignore[list-item]

    with pytest.raises(AirflowTaskTimeout):
        publish([A], POLICY, CONFIG)
    assert producer.purged


def test_settings_that_librdkafka_refuses_are_blamed_on_the_connection() -> None:
    with pytest.raises(ConfigurationError, match=r"'my_kafka' is not valid.*no\.such\.setting"):
        publish([A], POLICY, CONFIG | {"no.such.setting": 1})


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_what_json_can_hold_reads_back_the_same(value: Any) -> None:
    assume(find_not_finite(value) is None)
    [message] = encode_records({"host": "a", "v": value}, POLICY, max_bytes=10**6)

    assert json.loads(message.value)["v"] == value


@given(json_values)
def test_a_number_that_json_cannot_hold_is_never_sent_as_null(value: Any) -> None:
    record = {"host": "a", "v": [value, NAN]}

    with pytest.raises(RecordError, match="NaN"):
        encode_records(record, POLICY, max_bytes=10**6)


def test_the_key_may_be_a_number() -> None:
    [message] = encode_records([{"shard": 7}], PublishPolicy("t", key_field="shard"), max_bytes=10**6)

    assert (message.key, message.name) == (b"7", "record 0")


def test_metadata_of_topics_is_all_that_is_asked_for() -> None:
    with pytest.raises(ConfigurationError):
        module.check_topic(SimpleNamespace(list_topics=lambda timeout: topics()), POLICY, "b:1")
