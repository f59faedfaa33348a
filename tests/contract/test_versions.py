"""Which versions of etcd the contract was held against."""

from __future__ import annotations

import shutil

import pytest

from etcdleader.testing import EtcdServer

pytestmark = pytest.mark.etcd


def test_the_etcd_on_the_path_is_a_second_version(request: pytest.FixtureRequest, wheel_server: EtcdServer) -> None:
    """What holds for one version alone is not etcd's behaviour, but that version's."""
    if shutil.which("etcd") is None:
        pytest.skip("no etcd on the PATH: apt-get install etcd-server brings a second version to hold the contract to")
    path_server: EtcdServer = request.getfixturevalue("path_server")
    assert path_server.version != wheel_server.version
