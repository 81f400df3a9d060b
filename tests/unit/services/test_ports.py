from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from services import ServiceError, ports

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2394 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1
   1: 0100007F:2394 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1002 1
   2: 0100007F:2395 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1003 1
"""


@pytest.fixture
def taken() -> Iterator[int]:
    """A port of loopback on which this very process listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports.find_free_ports(1)[0]))
        listener.listen()
        yield listener.getsockname()[1]


def test_only_the_listener_of_the_port_is_taken_from_the_table() -> None:
    assert ports.parse_listeners(TABLE, 0x2394) == {"1001"}


def test_a_port_with_a_listener_is_not_free(taken: int) -> None:
    assert not ports.is_free(taken)
    assert ports.accepts(taken)


def test_a_port_is_free_again_when_its_listener_has_closed() -> None:
    (port,) = ports.find_free_ports(1)
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Java and sshd do
        listener.bind(("127.0.0.1", port))
        listener.listen()
        with socket.create_connection(("127.0.0.1", port)):
            accepted, _ = listener.accept()
            accepted.close()  # this side closes first, and lingers in TIME_WAIT

    assert ports.is_free(port)
    assert not ports.accepts(port)


def test_a_listener_on_all_addresses_takes_the_port_too() -> None:
    (port,) = ports.find_free_ports(1)
    with socket.socket() as listener:
        listener.bind(("", port))
        listener.listen()

        assert not ports.is_free(port)


def test_the_error_names_server_port_and_process(taken: int) -> None:
    with pytest.raises(
        ServiceError, match=f"kafka cannot start: port {taken} is taken by pid {os.getpid()} "
    ):
        ports.check_free("kafka", [taken])


def test_an_owner_that_cannot_be_seen_leaves_a_command_to_find_it() -> None:
    (port,) = ports.find_free_ports(1)

    assert ports.describe_owner(port) == "another process (find it with: ss -ltnp)"


def test_free_ports_differ_and_lie_below_those_of_outgoing_connections() -> None:
    found = ports.find_free_ports(20)

    assert len(set(found)) == 20
    assert max(found) < 32768


def test_another_address_of_loopback_has_ports_of_its_own(taken: int) -> None:
    assert ports.is_free(taken, "127.0.0.2")
    assert not ports.accepts(taken, address="127.0.0.2")
    ports.check_free("a node", [taken], "127.0.0.2")
