"""How hundreds of hosts share the machine; tests of the fleet run them."""

from __future__ import annotations

import ipaddress

import pytest

from services.loopback import list_addresses, plan_hosts


def test_addresses_are_on_loopback_and_all_different() -> None:
    addresses = list_addresses(1000)

    assert len(set(addresses)) == 1000
    assert all(ipaddress.ip_address(address).is_loopback for address in addresses)
    assert addresses[0] == "127.1.0.1"


@pytest.mark.parametrize("count", [0, 60_001])
def test_a_count_that_does_not_fit_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match="hosts: give"):
        list_addresses(count)


def test_no_sshd_has_more_addresses_than_it_can_listen_on() -> None:
    hosts = plan_hosts(list_addresses(33), 2222, extra_config=["UseDNS no"])

    listening = [
        [host.address, *(line.split()[1] for line in host.extra_config if "Listen" in line)] for host in hosts
    ]
    assert [len(each) for each in listening] == [16, 16, 1]
    assert [address for each in listening for address in each] == list_addresses(33)
    assert all(host.extra_config[0] == "UseDNS no" for host in hosts)
