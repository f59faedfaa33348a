"""Equal header blocks are decoded once, as long as their meaning stays the same."""

from __future__ import annotations

from etcdleader._grpc.hpack import HeaderDecoder


def test_cached_headers_are_decoded_again_after_the_table_has_changed() -> None:
    unpacker = HeaderDecoder()
    newest = b"\xbe"  # the newest entry of the table, whichever it is
    for number in range(3):
        added = b"\x40" + b"\x01a" + b"\x01" + str(number).encode()
        assert unpacker.decode(added) == {"a": str(number)}
        for _ in range(2):
            assert unpacker.decode(newest) == {"a": str(number)}


def test_the_cache_of_header_blocks_is_bounded() -> None:
    unpacker = HeaderDecoder()
    for size in range(1, 500):
        unpacker.decode(b"\x82" * size)
    assert len(unpacker._unpacked) < 100
