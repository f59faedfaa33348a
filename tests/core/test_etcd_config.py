"""Which settings of etcd are allowed, what they mean, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from etcdleader.config import EtcdConfig
from tests.core.refusals import SECRET, problems


@pytest.mark.parametrize(
    ("given_", "kept"),
    [
        ("127.0.0.1:2379", ("127.0.0.1:2379",)),
        ("a:1,b:2", ("a:1", "b:2")),
        (" a:1 , b:2, ", ("a:1", "b:2")),
        (["a:1", "b:2"], ("a:1", "b:2")),
        (("b:2", "a:1"), ("b:2", "a:1")),
        ((f"m{number}:2379" for number in range(3)), ("m0:2379", "m1:2379", "m2:2379")),
        (["http://A.Example:02379/"], ("a.example:2379",)),
        (["HTTPS://A:1"], ("https://a:1",)),
        (["[::1]:2379"], ("[::1]:2379",)),
        (["http://[0:0:0:0:0:0:0:1]:2379"], ("[::1]:2379",)),
        (["a:1", "http://a:1", "A:1", "b:1"], ("a:1", "b:1")),
        (["etcd_1.svc:65535"], ("etcd_1.svc:65535",)),
        ("unix:/run/Etcd@1.sock", ("unix:/run/Etcd@1.sock",)),
        ("unix:///run/etcd.sock, UNIX:/run/etcd.sock", ("unix:/run/etcd.sock",)),
        (["unix:/a,b"], ("unix:/a,b",)),
        (["unix:1", "srv:2379"], ("unix:1", "srv:2379")),
        ("srv:Example.Org., SRV:_x.example.org", ("srv:example.org", "srv:_x.example.org")),
    ],
)
def test_an_endpoint_has_one_spelling(given_: Any, kept: tuple[str, ...]) -> None:
    """Managers with an equal configuration share a connection, however it was written."""
    assert EtcdConfig(given_).endpoints == kept


@pytest.mark.parametrize(
    "endpoint",
    [
        *("", " ", "a", "a:", ":2379", "a:0", "a:65536", "a:-1", "a:x", "a:2379x", "a:٢٣٧٩", "a:123456"),
        *("::1:2379", "[::1]", "[::1", "[nope]:1", "[127.0.0.1]:1", "a b:1", "a:1/v3", "a:1?x", "a:1#x", "a\n:1"),
        *("ftp://a:1", "://a:1", "https://", "http://a", "https//a:1"),
        *(
            "unix:",
            "unix:/",
            "unix:a.sock",
            "unix://run/etcd",
            "unix:/a/",
            "unix:/a\nb",
            "unix:/a\0",
            f"unix:/{'x' * 107}",
        ),
        *("srv:", "srv://example.org", "srv:example.org:2379", "srv:a/b", "srv:a@b", "srv:-", "srv:a..b", "srv:a b"),
        *(None, 2379, b"a:1", ("a", 2379)),
    ],
    ids=repr,
)
def test_a_value_that_is_no_endpoint_is_refused(endpoint: Any) -> None:
    """gRPC would accept most of them, and then try forever."""
    (problem,) = problems(EtcdConfig, ["b:1", endpoint])
    assert problem.startswith("endpoints = ")
    assert "must" in problem


@pytest.mark.parametrize(
    ("endpoint", "reported"),
    [
        ("a:1,b:2", "must be one address: give several as a list, or as one string with commas"),
        ("http://a:2379/v3", "must end after the port"),
        ("a:2379/v3", "must end after the port"),
        ("https://a:2379?x=1", "must end after the port"),
        ("http://a/", "must have a port"),
        ("a", "must have a port"),
        ("::1:2379", "must have brackets around an IPv6 address"),
        ("http://a b:2379", "must have a host name"),
    ],
)
def test_a_wrong_endpoint_is_reported_with_the_reason(endpoint: str, reported: str) -> None:
    """Wrong advice costs an hour."""
    (problem,) = problems(EtcdConfig, [endpoint])
    assert problem.startswith(f"endpoints = {endpoint!r}: {reported}")


def test_endpoints_have_no_default() -> None:
    """A default would send the password to any server that listens there."""
    with pytest.raises(TypeError, match="endpoints"):
        EtcdConfig(user="u", password=SECRET)  # type: ignore[call-arg]


@pytest.mark.parametrize("endpoints", ["", " , ", [], (), None, 5, b"a:1", {"a:1": 1}])
def test_there_is_at_least_one_endpoint(endpoints: Any) -> None:
    """An empty list is a mistake, and a mapping is not a list."""
    (problem,) = problems(EtcdConfig, endpoints)
    assert problem.startswith("endpoints: ")


@pytest.mark.parametrize(
    "endpoints",
    [
        f"http://user:{SECRET}@a:1",
        [f"https://user:{SECRET}@a:1"],
        f"user:{SECRET}@a:1",
        f"http://user:{SECRET},x@a:1",
        f"http://user:x,{SECRET}@a:1",
        [f"http://{SECRET}@"],
        [("http", f"user:{SECRET}@a:1")],
    ],
)
def test_a_password_in_an_endpoint_is_refused_and_not_shown(endpoints: Any) -> None:
    """It would be in every log line that names the endpoint."""
    assert problems(EtcdConfig, endpoints)


@pytest.mark.parametrize(
    ("kwargs", "tls"),
    [
        ({"endpoints": "a:1"}, False),
        ({"endpoints": "http://a:1"}, False),
        ({"endpoints": "https://a:1"}, True),
        ({"endpoints": "a:1,https://b:1"}, True),
        ({"endpoints": "http://a:1", "ca_cert": "ca.pem"}, True),
        ({"endpoints": "a:1", "ca_cert": "ca.pem"}, True),
        ({"endpoints": "unix:/a"}, False),
        ({"endpoints": "srv:example.org"}, False),
        ({"endpoints": "unix:/a,https://b:1"}, True),
    ],
)
def test_https_or_a_ca_means_tls(kwargs: Any, *, tls: bool) -> None:
    """This holds for all endpoints: they are one cluster."""
    assert EtcdConfig(**kwargs).tls is tls


@pytest.mark.parametrize(
    ("kwargs", "reported"),
    [
        ({"user": "u"}, "user without password"),
        ({"password": SECRET}, "password without user"),
        ({"password_file": "/f"}, "password_file without user"),
        ({"user": "u", "password": SECRET, "password_file": "/f"}, "password together with password_file"),
        ({"user": "u", "password_file": ""}, "password_file: must be the path of a file"),
        ({"user": "u", "password_file": f"{SECRET}\n"}, "password_file: must be the path of a file"),
        ({"cert": "c"}, "cert without key"),
        ({"key": "k"}, "key without cert"),
        ({"user": "", "password": SECRET}, "user: must be"),
        ({"user": "u", "password": ""}, "password: must be"),
        ({"user": "u", "password": [SECRET]}, "password: must be"),
        ({"ca_cert": ""}, "ca_cert: must be the path"),
        ({"ca_cert": 5}, "ca_cert: must be the path"),
        ({"cert": "c", "key": f"-----BEGIN PRIVATE KEY-----{SECRET}"}, "key: must be the path"),
        ({"cert": "c", "key": f"{SECRET}\n"}, "key: must be the path"),
        ({"allow_plaintext_password": "no"}, "allow_plaintext_password = 'no': must be true or false"),
        ({"max_recv_bytes": 2**20 - 1}, "max_recv_bytes = 1048575: must be a whole number of bytes, from 1048576 to"),
        ({"max_recv_bytes": 2**31 + 1}, "max_recv_bytes = 2147483649: must be a whole number of bytes"),
        ({"max_recv_bytes": True}, "max_recv_bytes = True: must be a whole number of bytes"),
        ({"max_recv_bytes": "16MiB"}, "max_recv_bytes = '16MiB': must be a whole number of bytes"),
    ],
)
def test_half_of_a_pair_and_other_mistakes_are_refused(kwargs: Any, reported: str) -> None:
    """Each is reported once, and never with the secret in it."""
    (problem,) = problems(EtcdConfig, "127.0.0.1:1", **kwargs)
    assert problem.startswith(reported)


@pytest.mark.parametrize(
    ("endpoints", "kwargs", "allowed"),
    [
        ("etcd:1", {}, False),
        ("127.0.0.1:1,10.0.0.1:1", {}, False),
        ("localhost.example:1", {}, False),
        ("etcd:1", {"allow_plaintext_password": True}, True),
        ("https://etcd:1", {}, True),
        ("etcd:1", {"ca_cert": "ca.pem"}, True),
        ("127.0.0.1:1,localhost:1,[::1]:1,127.8.8.8:1", {}, True),
        ("localhost.:1", {}, True),
        ("unix:/run/etcd.sock", {}, True),
        ("srv:example.org", {}, True),
        ("srv:example.org,etcd:1", {}, False),
        ("unix:/run/etcd.sock,etcd:1", {}, False),
        ("etcd:1", {"password": None, "password_file": "/f"}, False),
        ("https://etcd:1", {"password": None, "password_file": "/f"}, True),
    ],
)
def test_a_password_leaves_the_machine_only_over_tls(endpoints: str, kwargs: Any, *, allowed: bool) -> None:
    """Or if the user has allowed plain text."""
    if allowed:
        EtcdConfig(endpoints, "u", **{"password": SECRET} | kwargs)
    else:
        (problem,) = problems(EtcdConfig, endpoints, "u", **{"password": SECRET} | kwargs)
        assert "without TLS" in problem


def test_all_wrong_etcd_settings_are_reported_at_once() -> None:
    """As with the election."""
    found = problems(EtcdConfig, ["a", "b:x"], user="u", cert="c", ca_cert="", allow_plaintext_password=5)
    assert len(found) == 6


def test_a_password_is_not_shown() -> None:
    """It is not shown by a debugger, a log or a failed assertion."""
    config = EtcdConfig("127.0.0.1:1", user="u", password=SECRET)
    assert SECRET not in f"{config} {config!r}"
    assert config.password == SECRET
    assert config != EtcdConfig("127.0.0.1:1", user="u", password="other")


def test_paths_are_kept_as_paths_and_not_opened() -> None:
    """Certificates are renewed, so they are read when a connection is made."""
    config = EtcdConfig(
        "https://a:1", ca_cert=Path("no/such/ca.pem"), cert="no/such/cert.pem", key=Path("no/such/key.pem")
    )
    assert (config.ca_cert, config.cert, config.key) == ("no/such/ca.pem", "no/such/cert.pem", "no/such/key.pem")
