"""The documented sample of the settings, config/settings.toml, has each setting with its default."""

from __future__ import annotations

import re
import tomllib

from etcdleader import must_new_leader_manager_from_config as must
from etcdleader._managers.etcd_manager import EtcdLeaderManager
from etcdleader.config import Config, EtcdConfig
from tests.helpers.paths import ROOT


def test_the_sample_has_every_setting_with_its_default() -> None:
    """It is the documentation; only enabled has no default."""
    sample = tomllib.loads((ROOT / "config/settings.toml").read_text(encoding="utf-8"))
    config = Config(**sample["leader"])
    assert config == Config(enabled=True)
    assert EtcdConfig(**sample["etcd"]) == EtcdConfig("127.0.0.1:2379")
    assert isinstance(must("jobs", settings=ROOT / "config/settings.toml"), EtcdLeaderManager)


def test_what_is_a_comment_in_the_sample_is_a_setting_too() -> None:
    """A setting without its # must have the documented effect."""
    lines = (ROOT / "config/settings.toml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line.removeprefix("# ") if re.match(r"# \w+ = \S", line) else line for line in lines)
    full = tomllib.loads(text)
    assert {*full["leader"]} == {*Config.__slots__, "election_key"}
    assert {*full["etcd"]} == {*EtcdConfig.__slots__}
    assert full["leader"].pop("election_key")
    assert Config(advertise=full["leader"].pop("advertise")).advertise
    assert Config(**full["leader"]) == Config(enabled=True)
    for other in ("password", "password_file"):
        EtcdConfig(**{name: value for name, value in full["etcd"].items() if name != other})
