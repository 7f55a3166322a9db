"""Compressed files: the same bytes come out, a cut or damaged file never passes, and none swells without bound."""

import bz2
import gzip
import lzma

import pyarrow as pa
import pytest

from volgrad.data.containers import packed
from volgrad.data.containers.packed import packing, unpacked
from volgrad.errors import DamagedError

CONTENT = b"".join(b"%d,%d\n" % (n, n * n) for n in range(40))
DAMAGE = (OSError, EOFError, lzma.LZMAError, pa.ArrowException)


def packers(tmp_path):
    def with_zstd(data):
        path = tmp_path / "by_arrow.zst"
        with pa.CompressedOutputStream(str(path), "zstd") as stream:
            stream.write(data)
        return path.read_bytes()

    return {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": with_zstd}


@pytest.fixture(params=["gzip", "bzip2", "xz", "zstd"])
def how(request):
    return request.param


def read(path, how):
    with unpacked(path, how) as stream:
        return stream.read()


def test_what_was_packed_comes_out_once_or_in_members(tmp_path, how):
    pack = packers(tmp_path)[how]
    for data in (pack(CONTENT), pack(CONTENT[:100]) + pack(CONTENT[100:])):
        path = tmp_path / "q"
        path.write_bytes(data)
        assert packing(data) == how
        assert read(path, how) == CONTENT


def test_a_file_cut_anywhere_is_found_out(tmp_path, how):
    data = packers(tmp_path)[how](CONTENT)
    path = tmp_path / "q"
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(DAMAGE):
            read(path, how)


def test_a_damaged_second_member_is_found_out(tmp_path, how):
    pack = packers(tmp_path)[how]
    path = tmp_path / "q"
    path.write_bytes(pack(CONTENT[:100]) + b"junk" + pack(CONTENT[100:]))
    with pytest.raises(DAMAGE):
        read(path, how)


def test_a_bomb_is_refused_with_its_figures(tmp_path, how, monkeypatch):
    monkeypatch.setattr(packed, "UNBOUNDED", 1 << 20)
    path = tmp_path / "bomb"
    path.write_bytes(packers(tmp_path)[how](bytes(40 << 20)))
    with pytest.raises(DamagedError, match=r"bomb: swells to more than .* MiB out of"):
        read(path, how)


def test_what_swells_within_bounds_is_read(tmp_path, how, monkeypatch):
    monkeypatch.setattr(packed, "UNBOUNDED", 0)
    text = b"".join(b"%d\n" % (n * 7919 % 10007) for n in range(20_000))
    path = tmp_path / "q"
    path.write_bytes(packers(tmp_path)[how](text))
    assert read(path, how) == text


@pytest.mark.parametrize("head", [b"ts,ccy\n", b"PAR1", b"{}", b""])
def test_plain_files_are_no_packings(head):
    assert packing(head) is None
