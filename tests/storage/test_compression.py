"""Compressed streams: members, cuts, damage and bombs, the same for each compression."""

from __future__ import annotations

import bz2
import gzip
import sys
from collections.abc import Callable

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from airflow_allma.exceptions import ObjectDecodeError, StorageConfigurationError
from airflow_allma.storage.compression import (
    Compression,
    compression_of,
    decompress,
    decompress_start,
    without_compression,
)

PACK: dict[Compression, Callable[[bytes], bytes]] = {
    Compression.GZIP: gzip.compress,
    Compression.ZSTD: zstd.compress,
    Compression.BZIP2: bz2.compress,
}
LINES = b"".join(b'{"n":%d}\n' % number for number in range(20_000))

every_compression = pytest.mark.parametrize("compression", list(Compression))


@every_compression
@given(members=st.lists(st.binary(max_size=300), min_size=1, max_size=4), size=st.integers(1, 200))
def test_members_are_joined_in_blocks_of_any_size(compression, members, size):
    packed = b"".join(map(PACK[compression], members))
    blocks = [packed[start : start + size] for start in range(0, len(packed), size)]
    assert compression_of(packed) is compression
    assert b"".join(decompress(blocks, "it", compression)) == b"".join(members)


@every_compression
def test_a_cut_is_an_error_and_its_beginning_can_be_seen(compression):
    packed = PACK[compression](LINES)[:-30]
    with pytest.raises(ObjectDecodeError, match=f"s3://b/k is not valid {compression}: it is cut off"):
        list(decompress([packed], "s3://b/k", compression))
    if compression is not Compression.BZIP2:
        # bzip2 has blocks of 900 kB; nothing can be seen before a whole one.
        assert LINES.startswith(decompress_start(packed, compression)[:1000] or b"?")


@every_compression
def test_damage_is_an_error(compression):
    packed = bytearray(PACK[compression](LINES))
    packed[len(packed) // 2 :] = bytes(len(packed) - len(packed) // 2)
    with pytest.raises(ObjectDecodeError, match=f"it is not valid {compression}"):
        list(decompress([bytes(packed)], "it", compression))


@every_compression
def test_a_bomb_is_an_error_before_it_fills_the_memory(compression):
    sizes: list[int] = []
    blocks = decompress([PACK[compression](bytes(80 << 20))], "it", compression)
    with pytest.raises(ObjectDecodeError, match="more than 200 times its size"):
        sizes.extend(map(len, blocks))
    assert max(sizes) <= 1 << 20
    assert sum(sizes) <= 65 << 20


def test_what_only_looks_compressed_is_not():
    for start in (b"", b"BZh", b"BZhello,world\n", b"\x1f\x8b", b"(\xb5/"):
        assert compression_of(start) is None


def test_endings_of_compression_are_ignored():
    assert without_compression("a/B.CSV.zst") == "a/b.csv"
    assert without_compression("gz") == "gz"


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(StorageConfigurationError, match=r"pip install 'airflow-allma\[zstd\]'"):
        list(decompress([zstd.compress(b"x")], "s3://b/k.zst", Compression.ZSTD))
