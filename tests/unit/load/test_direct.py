"""Which lane a write takes, with lanes that record what they are given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import cassandra
import pytest
from cassandra.policies import HostDistance

from airflow_provider_restrack.load import direct
from airflow_provider_restrack.load.direct import DirectChannel, open_direct
from airflow_provider_restrack.load.encode import EncodedRow
from airflow_provider_restrack.load.lanes import Answer
from airflow_provider_restrack.load.wire import routing_key
from tests.unit.load.fakes import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence

TABLE: Any = object()


class FakeLane:
    """Takes requests; answers and losses are those that the test puts into it."""

    def __init__(self, host: Any) -> None:
        self.host, self.closed, self.wants_to_write = host, False, False
        self.sent: list[tuple[Any, list[bytes], float]] = []
        self.answers: list[Answer] = []
        self.lost: list[Answer] = []
        self.expired: list[Answer] = []
        self.limit_s: float | None = None

    @property
    def in_flight(self) -> int:
        return len(self.sent)

    def send(self, request: Any, table: Any, rows: Sequence[bytes], now: float) -> None:
        assert table is TABLE
        self.sent.append((request, list(rows), now))
        self.wants_to_write = True

    def flush(self) -> list[Answer]:
        self.wants_to_write = False
        self.closed = self.closed or bool(self.lost)
        lost, self.lost = self.lost, []
        return lost

    def receive(self, now: float) -> list[Answer]:
        answers, self.answers = self.answers, []
        return answers

    def expire(self, now: float, timeout_s: float) -> list[Answer]:
        self.limit_s = timeout_s
        expired, self.expired = self.expired, []
        self.closed = self.closed or bool(expired)
        return expired

    def close(self, error: Exception | None = None) -> list[Answer]:
        self.closed = True
        return []


def host(name: str, distance: Any = HostDistance.LOCAL) -> Any:
    return SimpleNamespace(endpoint=name, distance=distance)


class Metadata:
    """Knows the replicas of partitions by their first byte."""

    def __init__(self, hosts: list[Any]) -> None:
        self.hosts = hosts
        self.replicas: dict[bytes, list[str]] = {}
        self.asked: list[tuple[str, bytes]] = []

    def all_hosts(self) -> list[Any]:
        return list(self.hosts)

    def get_replicas(self, keyspace: str, key: bytes) -> list[Any]:
        self.asked.append((keyspace, key))
        names = self.replicas.get(key, [])
        return [one for one in self.hosts if one.endpoint in names]


class Cluster:
    def __init__(self, *hosts: Any) -> None:
        self.metadata = Metadata(list(hosts))

    def _make_connection_kwargs(self, *_arguments: Any) -> dict[str, Any]:
        return {}


class Session:
    def __init__(self, *hosts: Any, level: int = 6, request_timeout: float | None = 12.0) -> None:
        self.cluster = Cluster(*hosts)
        self.profile = SimpleNamespace(
            consistency_level=level,
            request_timeout=request_timeout,
            load_balancing_policy=SimpleNamespace(distance=lambda one: one.distance),
        )

    def get_execution_profile(self, _name: Any) -> Any:
        return self.profile


class Opener:
    """Stands in for ``open_lane``: nodes named in ``down`` cannot be reached."""

    def __init__(self) -> None:
        self.down: set[str] = set()
        self.opened: list[FakeLane] = []
        self.asked: list[tuple[str, int, float]] = []

    def __call__(self, session: Any, host: Any, tables: Any, *, level: int, timeout_s: float) -> FakeLane:
        assert tuple(tables) == (TABLE,)
        self.asked.append((host.endpoint, level, timeout_s))
        if host.endpoint in self.down:
            raise ConnectionRefusedError(111, "refused")
        self.opened.append(FakeLane(host))
        return self.opened[-1]

    def lane(self, name: str) -> FakeLane:
        return [lane for lane in self.opened if lane.host.endpoint == name][-1]


@pytest.fixture
def opener(monkeypatch: pytest.MonkeyPatch) -> Opener:
    made = Opener()
    monkeypatch.setattr(direct, "open_lane", made)
    return made


def open_channel(session: Session, clock: Clock | None = None, level: int | None = None) -> DirectChannel:
    channel = open_direct(session, [TABLE], level=level, now=clock or Clock())
    assert channel is not None
    return channel


def row(key: bytes = b"a", table: Any = TABLE) -> EncodedRow:
    return EncodedRow((key,), (key,), 1, 10, b"values of " + key, None, table)


def answer(request: Any, error: Exception | None = None) -> Answer:
    return Answer(request, error, 0.1, "a host")


def test_lanes_lead_to_each_node_of_the_data_centre(opener: Opener) -> None:
    session = Session(host("a"), host("far", HostDistance.REMOTE), host("b"), host("x", HostDistance.IGNORED))
    channel = open_channel(session)

    assert [name for name, _, _ in opener.asked] == ["a", "b"]
    assert [lane.host.endpoint for lane in channel.lanes] == ["a", "b"]


@pytest.mark.parametrize(("level", "used"), [(None, 4), (1, 1), (0, 0)])
def test_the_level_is_the_one_given_or_the_profiles(opener: Opener, level: int | None, used: int) -> None:
    open_channel(Session(host("a"), level=4), level=level)

    assert opener.asked[0][1] == used


def test_a_write_goes_to_a_node_that_holds_it(opener: Opener) -> None:
    clock, session = Clock(), Session(host("a"), host("b"), host("c"))
    session.cluster.metadata.replicas = {b"p": ["b"], b"q": ["c"]}
    channel = open_channel(session, clock)

    assert channel.send("first", "ks", [row(b"p"), row(b"p")])
    assert channel.send("second", "ks", [row(b"q")])
    assert opener.lane("a").sent == []
    assert opener.lane("b").sent == [("first", [b"values of p"] * 2, clock.at)]
    assert opener.lane("c").sent == [("second", [b"values of q"], clock.at)]
    assert session.cluster.metadata.asked[0] == ("ks", b"p")


def test_of_the_nodes_that_hold_it_the_least_busy_one_takes_a_write(opener: Opener) -> None:
    session = Session(host("a"), host("b"), host("c"))
    session.cluster.metadata.replicas = {b"p": ["b", "c"]}
    channel = open_channel(session)
    for number in range(6):
        channel.send(number, "ks", [row(b"p")])

    assert [len(opener.lane(name).sent) for name in "abc"] == [0, 3, 3]


def test_the_only_node_is_not_asked_for(opener: Opener) -> None:
    session = Session(host("a"))
    channel = open_channel(session)

    assert channel.send("one", "ks", [row()])
    assert session.cluster.metadata.asked == []


def test_where_no_lane_leads_to_a_holder_any_node_passes_the_write_on(opener: Opener) -> None:
    session = Session(host("a"), host("b"), host("c"))
    session.cluster.metadata.replicas = {b"p": ["c"]}
    opener.down = {"c"}
    channel = open_channel(session)

    assert [lane.host.endpoint for lane in channel.replicas("ks", (b"p",))] == ["a", "b"]
    assert channel.send("one", "ks", [row(b"p")])
    assert len(opener.lane("a").sent) + len(opener.lane("b").sent) == 1


def test_partitions_on_the_same_nodes_have_equal_replicas(opener: Opener) -> None:
    session = Session(host("a"), host("b"), host("c"))
    metadata = session.cluster.metadata
    metadata.replicas = {b"p": ["a", "b"], b"q": ["a", "b"], routing_key((b"r", b"s")): ["b", "c"]}
    channel = open_channel(session)

    assert channel.replicas("ks", (b"p",)) == channel.replicas("ks", (b"q",))
    assert channel.replicas("ks", (b"r", b"s")) != channel.replicas("ks", (b"p",))
    assert [lane.host.endpoint for lane in channel.replicas("ks", (b"r", b"s"))] == ["b", "c"]
    assert len({channel.replicas("ks", (key,)) for key in (b"p", b"q")}) == 1


def test_without_a_lane_or_packed_rows_nothing_is_taken(opener: Opener) -> None:
    opener.down = {"a"}
    assert not open_channel(Session(host("a"))).send("one", "ks", [row()])
    opener.down = set()
    assert not open_channel(Session(host("a"))).send("one", "ks", [row(table=None)])
    assert opener.lane("a").sent == []


def test_a_node_that_cannot_be_reached_is_named_and_the_others_are_used(opener: Opener, caplog: Any) -> None:
    caplog.set_level("INFO")
    opener.down = {"a"}
    channel = open_channel(Session(host("a"), host("b")))

    assert [lane.host.endpoint for lane in channel.lanes] == ["b"]
    assert "writes to a go through the driver: ConnectionRefusedError" in caplog.text


def test_flush_sends_on_the_lanes_that_have_something(opener: Opener) -> None:
    channel = open_channel(Session(host("a")))
    channel.send("one", "ks", [row()])
    assert opener.lane("a").wants_to_write

    channel.flush()
    assert not opener.lane("a").wants_to_write


def test_answers_of_all_lanes_are_gathered(opener: Opener) -> None:
    session = Session(host("a"), host("b"))
    session.cluster.metadata.replicas = {b"p": ["a"], b"q": ["b"]}
    channel = open_channel(session)
    channel.send("one", "ks", [row(b"p")])
    channel.send("two", "ks", [row(b"q")])
    opener.lane("a").answers, opener.lane("b").answers = [answer("one")], [answer("two")]

    assert [one.request for one in channel.receive()] == ["one", "two"]


@pytest.mark.parametrize(("configured", "limit"), [(12.0, 12.0), (None, 10.0)])
def test_requests_expire_by_the_profiles_timeout(
    opener: Opener, configured: float | None, limit: float
) -> None:
    channel = open_channel(Session(host("a"), request_timeout=configured))
    channel.send("one", "ks", [row()])
    channel.receive()

    assert opener.lane("a").limit_s == limit


def test_a_lane_that_expires_is_given_up_with_its_requests(opener: Opener) -> None:
    channel = open_channel(Session(host("a")))
    channel.send("one", "ks", [row()])
    opener.lane("a").expired = [answer("one", ConnectionResetError())]

    assert [one.request for one in channel.receive()] == ["one"]
    assert channel.lanes == []
    assert channel.receive() == []


def test_what_is_lost_in_sending_is_answered_once(opener: Opener) -> None:
    channel = open_channel(Session(host("a"), host("b")))
    opener.lane("a").lost = [answer("one", ConnectionResetError())]
    opener.lane("a").wants_to_write = True
    channel.flush()

    assert [one.request for one in channel.receive()] == ["one"]
    assert [lane.host.endpoint for lane in channel.lanes] == ["b"]
    assert channel.receive() == []


def test_a_lane_lost_in_sending_is_not_waited_on(opener: Opener) -> None:
    channel = open_channel(Session(host("a"), host("b")))
    opener.lane("a").lost = [answer("one", ConnectionResetError())]
    opener.lane("a").wants_to_write = True
    channel.flush()

    assert [lane for lane in channel.lanes if lane.closed] == []


def test_an_idle_lane_that_its_node_closed_is_noticed(opener: Opener) -> None:
    channel = open_channel(Session(host("a"), host("b")))
    lane = opener.lane("a")

    def receive(_now: float) -> list[Answer]:
        lane.closed = True
        return []

    lane.receive = receive  # type: ignore[method-assign]
    channel.receive()

    assert [one.host.endpoint for one in channel.lanes] == ["b"]


def test_a_lost_node_is_tried_again_after_pauses_that_double(opener: Opener) -> None:
    clock, session = Clock(), Session(host("a"), host("b"))
    opener.down = {"a"}
    channel = open_channel(session, clock)
    started, tries = clock.at, []
    for _ in range(1300):
        clock.at += 0.1
        before = len(opener.asked)
        channel.reopen()
        if len(opener.asked) > before:
            tries.append(round(clock.at - started, 1))

    pauses = [after - before for before, after in zip([0.0, *tries], tries, strict=False)]
    assert pauses == pytest.approx([1, 2, 4, 8, 16, 32, 32, 32], abs=0.15)
    assert {(name, limit) for name, _, limit in opener.asked[2:]} == {("a", 1.0)}


def test_a_node_that_is_back_is_used_and_its_pause_is_short_again(opener: Opener) -> None:
    clock, session = Clock(), Session(host("a"))
    opener.down = {"a"}
    channel = open_channel(session, clock)
    for pause in (1.1, 2.1):
        clock.at += pause
        channel.reopen()
    assert channel.lanes == []

    opener.down = set()
    clock.at += 4.1
    channel.reopen()
    assert channel.send("one", "ks", [row()])
    opener.lane("a").closed = True
    channel.receive()
    assert channel.lanes == []
    clock.at += 0.5
    channel.reopen()
    assert channel.lanes == []
    clock.at += 0.6
    channel.reopen()
    assert len(channel.lanes) == 1


def test_while_no_lane_is_lost_nothing_is_tried(opener: Opener) -> None:
    clock = Clock()
    channel = open_channel(Session(host("a"), host("far", HostDistance.REMOTE)), clock)
    clock.at += 1000
    channel.reopen()

    assert [name for name, _, _ in opener.asked] == ["a"]


def test_close_closes_every_lane(opener: Opener) -> None:
    channel = open_channel(Session(host("a"), host("b")))
    channel.close()

    assert all(lane.closed for lane in opener.opened)
    assert channel.lanes == []


@pytest.mark.parametrize("version", ["3.29.3", "4.0.0", "4.1"])
def test_a_driver_that_is_not_known_opens_no_lane(
    opener: Opener, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cassandra, "__version__", version)

    assert open_direct(Session(host("a")), [TABLE], level=None, now=Clock()) is None
    assert opener.asked == []


@pytest.mark.parametrize("version", ["3.30", "3.30.0", "3.31.2", "3.99"])
def test_a_known_driver_opens_lanes(opener: Opener, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cassandra, "__version__", version)

    assert open_direct(Session(host("a")), [TABLE], level=None, now=Clock()) is not None


@pytest.mark.parametrize("tables", [[None], [TABLE, None], []], ids=["unpacked", "one unpacked", "none"])
def test_tables_whose_rows_are_not_packed_open_no_lane(opener: Opener, tables: list[Any]) -> None:
    assert open_direct(Session(host("a")), tables, level=None, now=Clock()) is None
    assert opener.asked == []


@pytest.mark.parametrize("session", [SimpleNamespace(), SimpleNamespace(cluster=SimpleNamespace())], ids=str)
def test_a_session_that_cannot_make_connections_opens_no_lane(opener: Opener, session: Any) -> None:
    assert open_direct(session, [TABLE], level=None, now=Clock()) is None
    assert opener.asked == []
