"""The same with the bare calls: a lease, and one transaction."""

from __future__ import annotations

import json
import random
import sys
import time

import grpc

from etcdleader.etcd3 import etcd3

_, endpoint, election = sys.argv
rpc = etcd3.etcdrpc
lease = random.getrandbits(62) + 1
prefix = f"{election}/".encode()
key = prefix + f"{lease:x}".encode()
with grpc.insecure_channel(endpoint) as channel:
    rpc.LeaseStub(channel).LeaseGrant(rpc.LeaseGrantRequest(TTL=60, ID=lease))
    absent = rpc.Compare(key=key, target=rpc.Compare.CREATE, result=rpc.Compare.EQUAL, create_revision=0)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"bench", lease=lease))
    look = rpc.RequestOp(request_range=rpc.RangeRequest(key=prefix, range_end=prefix[:-1] + b"0", limit=2))
    found = rpc.KVStub(channel).Txn(rpc.TxnRequest(compare=[absent], success=[put, look]))
    assert found.responses[1].response_range.count == 1
    elected = time.monotonic_ns()
    print(json.dumps({"elected": elected}), flush=True)
    rpc.LeaseStub(channel).LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease))
