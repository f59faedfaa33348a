"""Find the member of a real etcd that leads."""

from __future__ import annotations

from etcdleader import EtcdConfig
from etcdleader._etcd.client import new_client
from etcdleader.testing import EtcdServer

__all__ = ("leader_and_others",)


async def leader_and_others(etcd: EtcdServer) -> tuple[int, list[int]]:
    """Return the index of etcd's leader among the endpoints, and the ids of the other members."""
    leader, others = None, []
    for number, endpoint in enumerate(etcd.endpoints):
        client = new_client(EtcdConfig(endpoints=[endpoint]))
        try:
            status = await client.member_status(timeout=5)
        finally:
            await client.aclose()
        if status.leader == status.header.member_id:
            leader = number
        else:
            others.append(status.header.member_id)
    assert leader is not None, "etcd has no leader"
    return leader, others
