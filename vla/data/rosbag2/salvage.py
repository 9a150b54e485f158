"""What is whole in a damaged bag file."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing
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
        for code, content in _records(data):
            if code in (FOOTER, DATA_END):
                break
            if code in KEPT and (code != CHUNK or _is_whole(content)):
                mended.write(struct.pack("<BQ", code, len(content)) + content)
        mended.write(struct.pack("<BQI", DATA_END, 4, 0))
        mended.write(struct.pack("<BQQQI", FOOTER, 20, 0, 0, 0) + MAGIC)


def read_sqlite(source: Path) -> Iterator[Record]:
    """The whole messages of a damaged sqlite3 bag, in the order they were written, up to what cannot be followed.

    Where a file is cut off SQLite reads zeros, and says nothing if they are the end of a message. So it is read from two
    copies, with what is missing filled in two ways: what differs was not there.
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


def _records(data: BinaryIO) -> Iterator[tuple[int, bytes]]:
    size = data.seek(0, 2)
    data.seek(len(MAGIC))
    while len(head := data.read(9)) == 9:
        code, length = struct.unpack("<BQ", head)
        if length > size - data.tell():
            return
        yield code, data.read(length)


def _is_whole(chunk: bytes) -> bool:
    from rosbags.rosbag2.storage_mcap import decompress

    try:
        _, _, size, crc, name = struct.unpack_from("<QQQII", chunk)
        compression = chunk[32 : 32 + name].decode()
        (length,) = struct.unpack_from("<Q", chunk, 32 + name)
        raw = decompress(chunk[40 + name : 40 + name + length], compression, size, crc)
    except Exception:  # a damaged chunk fails in as many ways as there are decompressors
        return False
    return len(raw) == size and (not crc or zlib.crc32(raw) == crc)
