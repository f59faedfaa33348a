"""Bugs in what a password is read from, in where it is sent, and in where members are found."""

from __future__ import annotations

from tests.planted.bug import Bug

__all__ = ("BUGS",)

BUGS = (
    Bug(
        "a password file is read once",
        "secrets",
        within="_current_password",
        pattern=r"return await (.+)",
        replacement=r"self._password = await \1\nreturn self._password",
        test="test_the_file_is_read_at_each_login",
    ),
    Bug(
        "a password that was given as a path is shown",
        "secrets",
        within="read_password",
        pattern=r"if os\.sep not in path:",
        replacement="if False:",
        test="test_a_password_that_was_given_as_the_path_is_not_shown",
    ),
    Bug(
        "two passwords are accepted, and one of them is ignored",
        "secrets",
        within="_check_secret",
        pattern=r"if len\(given\) == 2:",
        replacement="if False:",
        test="test_half_of_a_pair_and_other_mistakes_are_refused",
    ),
    Bug(
        "a process starts without its password file",
        "secrets",
        within="_etcd_config",
        pattern=r"read_password\(config\.password_file\)",
        replacement="pass",
        test="test_a_process_does_not_start_without_its_password",
    ),
    Bug(
        "members without TLS are looked up although TLS is required",
        "secrets",
        within="services",
        pattern=r"if config\.tls",
        replacement="if False",
        test="test_a_configuration_with_tls_asks_for_members_with_tls_only",
    ),
    Bug(
        "a password goes to members without TLS that DNS names",
        "secrets",
        within="members",
        pattern=r"elif config\.user is not None",
        replacement="elif False",
        test="test_a_password_goes_to_members_without_tls_only",
    ),
    Bug(
        "a forged answer of DNS may name any host",
        "secrets",
        within="_check_names",
        pattern=r"del found\[endpoint\]",
        replacement="pass",
        test="test_with_public_authorities_the_members_must_lie_in_the_domain",
    ),
    Bug(
        "a lookup that fails counts as an answer without records",
        "secrets",
        within="_query",
        pattern=r"except \(NXDOMAIN, NoAnswer\):",
        replacement="except (DNSException, OSError):",
        test="test_a_failing_lookup_of_members_with_tls_leads_to_no_members_without",
    ),
    Bug(
        "an outage of DNS leaves no members",
        "connection",
        within="all",
        pattern=r"if not self\._last:",
        replacement="if True:",
        test="test_in_an_outage_of_dns_the_last_members_are_used",
    ),
    Bug(
        "the same member of a domain is tried again",
        "connection",
        within="next",
        pattern=r"min\(found, key=.+\)",
        replacement="found[0]",
        test="test_a_member_that_was_not_tried_comes_before_those_that_were",
    ),
    Bug(
        "a unix socket is taken for a host on the network",
        "secrets",
        within="is_loopback",
        pattern=r"if unix_path\(endpoint\) is not None:",
        replacement="if False:",
        test="test_a_password_leaves_the_machine_only_over_tls",
    ),
)
