"""TFRecord files, Examples and features come back as they were written, or are named with the byte that is wrong."""

import json
import zlib

import numpy as np
import pytest
from tfds_writer import (
    TEXT,
    encode,
    example,
    image,
    masked_crc,
    message,
    nested,
    record,
    sequence,
    sequence_example,
    tensor,
    varint,
    write_directory,
)

from vla.data.convert import decode_image
from vla.data.rlds.crc32c import crc32c, masked_crc32c
from vla.data.rlds.directory import TfdsDirectory
from vla.data.rlds.example import parse_example
from vla.data.rlds.tfrecord import read_records
from vla.errors import UserError

RNG = np.random.default_rng(0)


def test_checksums_are_those_of_the_standard():
    assert crc32c(b"") == 0
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA  # RFC 3720, B.4
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 12, 63, 64, 65, 1000, 4097])
def test_checksums_of_any_length_agree_with_the_table(length):
    data = RNG.bytes(length)
    assert masked_crc32c(data) == masked_crc(data)


@pytest.fixture
def shard(tmp_path):
    file = tmp_path / "toy.tfrecord"
    file.write_bytes(b"".join(record(bytes([i]) * (10 + i)) for i in range(5)))
    return file


def test_records_are_read_from_anywhere(shard):
    assert [one.data for one in read_records(shard, 0, 5, last=True)] == [bytes([i]) * (10 + i) for i in range(5)]
    (third,) = read_records(shard, 2, 3)
    assert third.data == b"\2" * 12 and third.offset == (16 + 10) + (16 + 11)


@pytest.mark.parametrize(
    ("offset", "message"),
    [(26, "byte 26: the length"), (26 + 9, "byte 26: the length"), (26 + 14, "byte 26: the 11 bytes"), (52, "byte 26")],
)
def test_a_flipped_bit_is_named_by_shard_and_byte(shard, offset, message):
    data = bytearray(shard.read_bytes())
    data[offset] ^= 0x10
    shard.write_bytes(data)
    with pytest.raises(UserError, match=rf"{shard} is damaged at {message}"):
        list(read_records(shard, 0, 5, last=True))


@pytest.mark.parametrize("cut", [1, 4, 20])
def test_a_shard_that_is_cut_off_is_named_with_its_end(shard, cut):
    data = shard.read_bytes()
    shard.write_bytes(data[:-cut])
    with pytest.raises(UserError, match=rf"{shard} is cut off at byte {len(data) - cut}.*begins at byte 110"):
        list(read_records(shard, 0, 5, last=True))
    shard.write_bytes(data[:110])
    with pytest.raises(UserError, match="cut off at byte 110: more records are expected"):
        list(read_records(shard, 0, 5, last=True))


def test_a_shard_with_more_than_it_should_have_is_named(shard):
    with pytest.raises(UserError, match="damaged at byte 110: expected the end after 4 records"):
        list(read_records(shard, 0, 4, last=True))


def test_examples_hold_bytes_floats_and_ints():
    features = {"f": np.array([1.5, -0.1], np.float32), "i": [0, -1, 2**62, 300], "b": ["a", "é"], "none": []}
    found = parse_example(example(features))
    assert found["f"].values.tolist() == [1.5, np.float32(-0.1)]
    assert found["i"].values.tolist() == [0, -1, 2**62, 300]
    assert found["b"].values == [b"a", "é".encode()]
    assert len(found["none"].values) == 0


def test_numbers_need_not_be_packed():
    floats = message(2, b"".join(varint(1 << 3 | 5) + np.float32(x).tobytes() for x in (1, 2)))
    ints = message(3, b"".join(varint(1 << 3) + varint(x) for x in (5, -6)))
    entries = b"".join(message(1, message(1, key) + message(2, value)) for key, value in ((b"f", floats), (b"i", ints)))
    found = parse_example(message(1, entries))
    assert found["f"].values.tolist() == [1, 2] and found["i"].values.tolist() == [5, -6]


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05ab", b"\xff" * 12, message(1, b"\x0a\x80"), b"\x0b"])
def test_what_is_no_example_is_refused(data):
    with pytest.raises(ValueError, match=r"cut off|beyond|wire type"):
        parse_example(data)


PICTURES = [RNG.integers(0, 255, (8, 12, 3), np.uint8) for _ in range(3)]
FEATURES = nested(
    success=tensor("bool"),
    count=tensor("int64"),
    file=TEXT,
    grid=tensor("float32", 2, 3),
    steps=sequence(
        nested(
            state=tensor("float64", 2),
            reward=tensor("float32"),
            is_last=tensor("bool"),
            small=tensor("uint8", 2, 2),
            words=TEXT,
            sharp=image(8, 12, "png"),
            blurred=image(8, 12, "jpeg"),
            boxes=sequence(tensor("float32", 4)),
            packed=tensor("float32", 3, encoding="zlib"),
            label={"pythonClassName": "ClassLabel", "classLabel": {"numClasses": "3"}},
            sound={"pythonClassName": "Audio", "audio": {}},
        )
    ),
)
STATE = RNG.normal(size=(3, 2)).astype(np.float32)
BOXES = RNG.normal(size=(3, 4)).astype(np.float32)
PACKED = RNG.normal(size=(3, 3)).astype(np.float32)
VALUES = {
    "success": [1],
    "count": [-7],
    "file": "a/b.hdf5",
    "grid": np.arange(6, dtype=np.float32),
    "steps/state": STATE,
    "steps/reward": np.array([0, 0, 1], np.float32),
    "steps/is_last": [0, 0, 1],
    "steps/small": list(range(12)),
    "steps/words": ["put", "the", "cup"],
    "steps/sharp": [encode(picture, "png") for picture in PICTURES],
    "steps/blurred": [encode(picture, "jpeg") for picture in PICTURES],
    "steps/boxes/ragged_flat_values": BOXES,
    "steps/boxes/ragged_row_lengths_0": [2, 0, 1],
    "steps/packed": [zlib.compress(row.tobytes()) for row in PACKED],
    "steps/label": [2, 0, 1],
}


@pytest.fixture
def episode(tmp_path):
    root = write_directory(tmp_path / "toy", FEATURES, {"train": [[example(VALUES)]]})
    (raw,) = TfdsDirectory.open(root).read(0, 1)
    return raw


def test_features_of_every_kind_come_back(episode):
    assert episode.read("success") is not None and bool(episode.read("success")) is True
    assert episode.read("success").dtype == bool and episode.read("count") == -7
    assert episode.read("file") == b"a/b.hdf5"
    assert episode.read("grid").tolist() == [[0, 1, 2], [3, 4, 5]]
    assert episode.read("steps/state").dtype == np.float64 and np.array_equal(episode.read("steps/state"), STATE)
    assert episode.read("steps/reward").tolist() == [0, 0, 1]
    assert episode.read("steps/is_last").tolist() == [False, False, True]
    assert episode.read("steps/small").shape == (3, 2, 2) and episode.read("steps/small").dtype == np.uint8
    assert episode.read("steps/words") == [b"put", b"the", b"cup"]
    assert np.array_equal(episode.read("steps/packed"), PACKED)
    assert episode.read("steps/label").tolist() == [2, 0, 1]


def test_ragged_features_are_split_into_their_rows(episode):
    first, second, third = episode.read("steps/boxes")
    assert np.array_equal(first, BOXES[:2]) and second.shape == (0, 4) and np.array_equal(third, BOXES[2:])


def test_pictures_come_back(episode):
    for encoded, picture in zip(episode.read("steps/sharp"), PICTURES, strict=True):
        assert np.array_equal(decode_image(encoded), picture)
    for encoded in episode.read("steps/blurred"):
        assert decode_image(encoded).shape == (8, 12, 3)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_image(b"\x89PNG no more")


def test_a_sequence_example_counts_its_own_rows(tmp_path):
    features = nested(n=tensor("int64"), steps=sequence(nested(x=tensor("float32", 2), boxes=sequence(TEXT))))
    lists = {"steps/x": [np.float32([1, 2]), np.float32([3, 4])], "steps/boxes": [["a", "b"], []]}
    root = write_directory(tmp_path / "toy", features, {"train": [[sequence_example({"n": [5]}, lists)]]})
    (raw,) = TfdsDirectory.open(root).read(0, 1)
    assert raw.read("n") == 5 and raw.read("steps/x").tolist() == [[1, 2], [3, 4]]
    assert raw.read("steps/boxes") == [[b"a", b"b"], []]


@pytest.mark.parametrize(
    ("change", "path", "message"),
    [
        ({"steps/state": np.zeros(5, np.float32)}, "steps/state", "steps/state has 5 values, which is no multiple"),
        ({"count": None}, "count", "count is missing"),
        ({"steps/words": [1, 2, 3]}, "steps/words", "steps/words holds numbers, not text"),
        ({"steps/state": ["a"]}, "steps/state", "steps/state holds bytes, not float64"),
        ({"steps/boxes/ragged_row_lengths_0": [2, 2]}, "steps/boxes", "rows of 4 values in all, but there are 3"),
        ({}, "steps/sound", "of a kind of feature this reader does not know"),
    ],
)
def test_values_that_features_json_does_not_promise_are_named(tmp_path, change, path, message):
    values = {name: value for name, value in (VALUES | change).items() if value is not None}
    root = write_directory(tmp_path / "toy", FEATURES, {"train": [[example(values)]]})
    (raw,) = TfdsDirectory.open(root).read(0, 1)
    with pytest.raises(UserError, match=rf"toy-train.tfrecord-00000-of-00001, byte 0: .*{message}"):
        raw.read(path)


def episodes(count):
    return [example({"success": [1], "steps/reward": np.array([number], np.float32)}) for number in range(count)]


def test_a_directory_is_its_splits_and_shards_one_after_the_other(tmp_path):
    shards = {"train": [episodes(3)[:2], episodes(3)[2:]], "val": [episodes(1)]}
    root = write_directory(tmp_path / "toy", FEATURES, shards)
    both = TfdsDirectory.open(root)
    assert (both.episodes, both.splits) == (4, ("train", "val"))
    assert [float(raw.read("steps/reward")[0]) for raw in both.read(1, 4)] == [1, 2, 0]
    assert TfdsDirectory.open(root, "val").episodes == 1


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "features.json").unlink(), r"features.json does not exist, so .* is no TFDS directory"),
        (lambda root: (root / "features.json").write_text("{"), r"features.json is not what TFDS writes"),
        (lambda root: (root / "features.json").write_text(json.dumps(nested(a=TEXT))), "names no steps"),
        (lambda root: (root / "dataset_info.json").unlink(), r"dataset_info.json does not exist"),
        (lambda root: (root / "dataset_info.json").write_text('{"fileFormat": "riegeli"}'), "only tfrecord can be"),
        (lambda root: (root / "dataset_info.json").write_text("{}"), r"dataset_info.json is not what TFDS writes"),
        (lambda root: (root / "toy-train.tfrecord-00001-of-00002").unlink(), r"shard .*00001-of-00002 is missing"),
    ],
)
def test_a_directory_that_is_not_whole_is_refused_at_once(tmp_path, damage, message):
    root = write_directory(tmp_path / "toy", FEATURES, {"train": [episodes(1), episodes(1)]})
    damage(root)
    with pytest.raises(UserError, match=message):
        TfdsDirectory.open(root)


def test_the_folder_above_a_version_and_an_unknown_split_are_told_what_there_is(tmp_path):
    root = write_directory(tmp_path / "toy" / "1.0.0", FEATURES, {"train": [episodes(1)]})
    with pytest.raises(UserError, match=r"give a version inside it: 1\.0\.0"):
        TfdsDirectory.open(root.parent)
    with pytest.raises(UserError, match="no split 'test'; it has train"):
        TfdsDirectory.open(root, "test")
