"""What is whole in a damaged bag file."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from collections.abc import Iterator
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, MESSAGE, CHUNK, DATA_END = 0x01, 0x02, 0x05, 0x06, 0x0F
KEPT = (HEADER, 0x03, 0x04, MESSAGE, CHUNK)
"""Records of an MCAP file that carry data: header, schema, channel, message, chunk; the others are indices of them."""

Record = tuple[str, str, int, bytes]
"""Topic, message type, log time (ns), CDR."""


def mend_mcap(source: Path, target: Path) -> None:
    """Copy the whole records of an MCAP file, as far as they can be followed, into a file that ends as it should.

    Chunks whose checksum is wrong are left out. Raises ValueError if the file does not even begin as one.
    (MCAP specification, mcap.dev/spec.)
    """
    with source.open("rb") as data, target.open("wb") as mended:
        if data.read(len(MAGIC)) != MAGIC:
            raise ValueError("it does not begin as an MCAP file")
        mended.write(MAGIC)
        for code, content, whole in _records(data):
            if code in (FOOTER, DATA_END):
                break
            if code == CHUNK and not whole:
                for inner, record, complete in _records(BytesIO(_beginning(content))):
                    if inner in KEPT and complete:
                        _write(mended, inner, record)
            elif code in KEPT and whole and (code != CHUNK or _is_sound(content)):
                _write(mended, code, content)
        mended.write(struct.pack("<BQI", DATA_END, 4, 0))
        mended.write(struct.pack("<BQQQI", FOOTER, 20, 0, 0, 0) + MAGIC)


def read_sqlite(source: Path) -> Iterator[Record]:
    """The whole messages of a damaged sqlite3 bag, in the order they were written, up to what cannot be followed.

    Where a file is cut off SQLite reads zeros, and says nothing if they are the end of a message. So it is read from
    two copies, with what is missing filled in two ways: what differs was not there.
    """
    with tempfile.TemporaryDirectory(prefix="vla-rosbag2-") as folder:
        copies = [_filled(source, Path(folder) / f"{fill[0]}.db3", fill) for fill in (b"\x00", b"\xff")]
        for one, other in zip(*map(_rows, copies), strict=False):
            if one == other:
                yield one


def _filled(source: Path, copy: Path, fill: bytes) -> Path:
    shutil.copyfile(source, copy)
    with copy.open("r+b") as data:
        head = data.read(100)
        if len(head) == 100:
            # Page size (1 means 65536) and number of pages (SQLite's file format, section 1.3).
            page, pages = struct.unpack_from(">H", head, 16)[0], struct.unpack_from(">I", head, 28)[0]
            size, whole = data.seek(0, 2), (65536 if page == 1 else page) * pages
            if size < whole < 2 * size + 2**20:
                data.write(fill * (whole - size))
    return copy


def _rows(path: Path) -> Iterator[Record]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as base:
        try:
            base.execute("PRAGMA writable_schema=ON")  # or SQLite would refuse a file whose pages do not add up
            topics = {key: (name, kind) for key, name, kind in base.execute("SELECT id, name, type FROM topics")}
            rows = base.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY id")
            while row := rows.fetchone():
                yield *topics[row[0]], int(row[1]), bytes(row[2])
        except (sqlite3.Error, KeyError, TypeError):
            return


def _records(data: BinaryIO) -> Iterator[tuple[int, bytes, bool]]:
    """Code and content of the records from here on; the last may be cut off, and is not whole then."""
    while len(head := data.read(9)) == 9:
        code, length = struct.unpack("<BQ", head)
        content = data.read(min(length, 2**32))
        yield code, content, len(content) == length


def _write(mended: BinaryIO, code: int, content: bytes) -> None:
    mended.write(struct.pack("<BQ", code, len(content)) + content)


def _split(chunk: bytes) -> tuple[str, int, int, bytes]:
    """Compression, size, checksum and records of a chunk."""
    _, _, size, crc, name = struct.unpack_from("<QQQII", chunk)
    return chunk[32 : 32 + name].decode(), size, crc, chunk[40 + name :]


def _is_sound(chunk: bytes) -> bool:
    from rosbags.rosbag2.storage_mcap import decompress

    try:
        compression, size, crc, records = _split(chunk)
        decompress(records, compression, size, crc)  # raises if size or checksum are wrong
    except Exception:  # a damaged chunk fails in as many ways as there are decompressors
        return False
    return True


def _beginning(chunk: bytes) -> bytes:
    """What can be had of the records of a chunk that is cut off."""
    try:
        compression, _, _, records = _split(chunk)
        if compression == "lz4":
            from lz4.frame import LZ4FrameDecompressor

            return LZ4FrameDecompressor().decompress(records)
        if compression == "zstd":
            from rosbags.rosbag2.storage_mcap import zstd

            return zstd.ZstdDecompressor().decompress(records)
    except Exception:  # as above
        return b""
    return b"" if compression else records
