"""Which members SRV records name, in which order, and which of them a configuration allows."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from etcdleader import EtcdConfig, EtcdRefusedError
from etcdleader._etcd.srv_records import PLAIN_SERVICE, TLS_SERVICE, SrvRecord, in_order, members, services

DOMAIN = "srv:example.org"
PLAIN = EtcdConfig(DOMAIN)
PINNED = EtcdConfig(DOMAIN, ca_cert="ca.pem")


def found(service: str, *records: SrvRecord, config: EtcdConfig = PLAIN) -> tuple[str, ...]:
    return members("example.org", service, records, config, lambda low, high: low)


def record(target: str, port: int = 2379, priority: int = 0, weight: int = 0) -> SrvRecord:
    return SrvRecord(priority, weight, port, target)


def test_the_names_are_those_of_etcds_own_clients() -> None:
    assert services(PLAIN) == ("_etcd-client-ssl._tcp", "_etcd-client._tcp")


def test_a_configuration_with_tls_asks_for_members_with_tls_only() -> None:
    """A forged answer cannot take the encryption away."""
    for config in (PINNED, EtcdConfig(["https://a:1", DOMAIN])):
        assert services(config) == (TLS_SERVICE,)


def test_members_are_endpoints_in_normal_form() -> None:
    assert found(PLAIN_SERVICE, record("A.Example.org.", 1), record("b", 2)) == ("a.example.org:1", "b:2")
    assert found(TLS_SERVICE, record("A.Example.org.", 1)) == ("https://a.example.org:1",)


@pytest.mark.parametrize("target", [".", "a b.", "a/b.", "a\\000.", "a@b."])
def test_a_target_that_is_no_host_is_left_out(target: str) -> None:
    """A dot alone says that there is no such service."""
    assert found(PLAIN_SERVICE, record(target), record("a.")) == ("a:2379",)
    assert found(PLAIN_SERVICE, record(target)) == ()
    assert found(PLAIN_SERVICE, record("a.", port=0)) == ()


def test_a_domain_does_not_name_endless_members() -> None:
    assert len(found(PLAIN_SERVICE, *(record(f"m{number}.") for number in range(1000)))) == 64


def test_priorities_come_before_weights() -> None:
    first, second = record("a.", priority=1), record("b.", priority=2, weight=65535)
    assert in_order([second, first], random.uniform) == [first, second]


def test_weights_share_the_members_among_many_clients() -> None:
    generator = random.Random(1)
    records = [record("a.", weight=3), record("b.", weight=1), record("c.", weight=0)]
    firsts = Counter(in_order(records, generator.uniform)[0].target for _ in range(4000))
    assert 2800 < firsts["a."] < 3200
    assert 800 < firsts["b."] < 1200
    assert firsts["c."] < 10


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_no_member_is_lost_in_the_order(share: float) -> None:
    records = [record(name, weight=weight) for name in "abc" for weight in (0, 5)]
    assert sorted(in_order(records, lambda low, high: low + share * (high - low))) == sorted(records)


def test_a_password_goes_to_members_without_tls_only_where_that_is_allowed() -> None:
    asked = EtcdConfig(DOMAIN, "user", "hunter2")
    with pytest.raises(EtcdRefusedError, match="records without TLS only") as caught:
        found(PLAIN_SERVICE, record("a."), config=asked)
    assert "hunter2" not in str(caught.value)
    assert found(TLS_SERVICE, record("a.example.org."), config=asked)
    assert found(PLAIN_SERVICE, record("localhost."), config=asked) == ("localhost:2379",)
    allowed = EtcdConfig(DOMAIN, "user", "hunter2", allow_plaintext_password=True)
    assert found(PLAIN_SERVICE, record("a."), config=allowed) == ("a:2379",)
    with pytest.raises(EtcdRefusedError):
        found(PLAIN_SERVICE, record("a."), config=EtcdConfig(DOMAIN, "user", password_file="/p"))


def test_with_public_authorities_the_members_must_lie_in_the_domain() -> None:
    """An attacker that forges the response has a certificate for another host."""
    inside, outside = record("a.Example.org."), record("example.org.evil.net.")
    assert found(TLS_SERVICE, outside, inside) == ("https://a.example.org:2379",)
    assert found(TLS_SERVICE, record("example.org.")) == ("https://example.org:2379",)
    for target in ("evil.net.", "notexample.org."):
        with pytest.raises(EtcdRefusedError, match="set ca_cert"):
            found(TLS_SERVICE, record(target))
    assert found(TLS_SERVICE, outside, config=PINNED) == ("https://example.org.evil.net:2379",)
