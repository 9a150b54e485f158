"""TFRecord files: length, its checksum, data, its checksum, and so on to the end of the file.

Format: TensorFlow, "TFRecord and tf.train.Example" guide; all integers little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vla.data.rlds.crc32c import masked_crc32c
from vla.errors import UserError

HEADER, CHECKSUM = struct.Struct("<QI"), struct.Struct("<I")


@dataclass(frozen=True)
class Record:
    """The bytes of one record, and where in which file it begins."""

    data: bytes
    shard: Path
    offset: int

    @property
    def where(self) -> str:
        return f"{self.shard}, byte {self.offset}"


def read_records(shard: Path, start: int, stop: int, last: bool = False) -> Iterator[Record]:
    """Records start, ..., stop - 1 of a file; those before are passed over by their lengths.

    last: the file must end there. Raises UserError with the file and the byte where it is damaged, cut off or longer
    than it should be.
    """
    try:
        with open(shard, "rb") as file:
            size = shard.stat().st_size
            for index in range(stop):
                offset = file.tell()
                length = _length(file.read(HEADER.size), shard, offset)
                end = offset + HEADER.size + length + CHECKSUM.size
                if end > size:
                    raise _cut_off(shard, size, f"the record that begins at byte {offset} goes on to byte {end}")
                if index < start:
                    file.seek(end)
                    continue
                data = file.read(length)
                (checksum,) = CHECKSUM.unpack(file.read(CHECKSUM.size))
                if masked_crc32c(data) != checksum:
                    raise _damaged(shard, offset, f"the {length} bytes of this record do not fit their checksum")
                yield Record(data, shard, offset)
            if last and file.tell() != size:
                raise _damaged(shard, file.tell(), f"expected the end after {stop} records")
    except FileNotFoundError:
        raise UserError(f"rlds: {shard} is missing") from None
    except OSError as error:
        raise UserError(f"rlds: cannot read {shard}: {error.strerror or error}") from None


def _length(header: bytes, shard: Path, offset: int) -> int:
    if len(header) < HEADER.size:
        expected = f"the record that begins at byte {offset} goes on" if header else "more records are expected"
        raise _cut_off(shard, offset + len(header), expected)
    length, checksum = HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum:
        raise _damaged(shard, offset, "the length of this record does not fit its checksum")
    return length


def _damaged(shard: Path, offset: int, what: str) -> UserError:
    return UserError(f"rlds: {shard} is damaged at byte {offset}: {what}; get the file again")


def _cut_off(shard: Path, size: int, what: str) -> UserError:
    return UserError(f"rlds: {shard} is cut off at byte {size}: {what}; get the file again")
