"""Writes small directories as TensorFlow Datasets does: protobuf by hand, checksums by table, one bit at a time.

It shares nothing with the reader it tests.
"""

import json
import struct
from pathlib import Path

import cv2
import numpy as np

TENSOR = "tensorflow_datasets.core.features.tensor_feature.Tensor"


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


TABLE = _table()


def masked_crc(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc(length)) + data + struct.pack("<I", masked_crc(data))


def varint(value: int) -> bytes:
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def message(number: int, payload: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def feature(values) -> bytes:
    """bytes, text or numbers, singly or in a list or array, as a tf.train.Feature."""
    if isinstance(values, bytes | str):
        values = [values]
    if isinstance(values, list) and values and isinstance(values[0], bytes | str):
        items = [item.encode() if isinstance(item, str) else item for item in values]
        return message(1, b"".join(message(1, item) for item in items))
    array = np.asarray(values).reshape(-1)
    if array.dtype.kind == "f":
        return message(2, message(1, array.astype("<f4").tobytes()))
    return message(3, message(1, b"".join(varint(int(item)) for item in array)))


def _map(entries: dict) -> bytes:
    return b"".join(message(1, message(1, name.encode()) + message(2, value)) for name, value in entries.items())


def example(features: dict) -> bytes:
    """A tf.train.Example of {name: values}."""
    return message(1, _map({name: feature(values) for name, values in features.items()}))


def sequence_example(context: dict, lists: dict) -> bytes:
    """A tf.train.SequenceExample; lists: {name: [values of an entry, ...]}."""
    named = {name: b"".join(message(1, feature(entry)) for entry in entries) for name, entries in lists.items()}
    return message(1, _map({name: feature(values) for name, values in context.items()})) + message(2, _map(named))


def tensor(dtype: str, *shape: int, encoding: str = "none") -> dict:
    dimensions = {"dimensions": [str(size) for size in shape]} if shape else {}
    return {"pythonClassName": TENSOR, "tensor": {"shape": dimensions, "dtype": dtype, "encoding": encoding}}


def image(height: int, width: int, form: str) -> dict:
    shape = {"dimensions": [str(height), str(width), "3"]}
    return {"pythonClassName": "Image", "image": {"shape": shape, "dtype": "uint8", "encodingFormat": form}}


TEXT = {"pythonClassName": "Text", "text": {}}


def nested(**features: dict) -> dict:
    return {"pythonClassName": "FeaturesDict", "featuresDict": {"features": features}}


def sequence(inner: dict) -> dict:
    """A Sequence, or with a nested(...) inside what a Dataset is in features.json."""
    return {"pythonClassName": "Dataset", "sequence": {"feature": inner, "length": "-1"}}


def encode(picture: np.ndarray, form: str) -> bytes:
    done, buffer = cv2.imencode(f".{form}", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])
    assert done
    return buffer.tobytes()


def write_directory(root: Path, features: dict, shards: dict[str, list[list[bytes]]], name: str = "toy") -> Path:
    """shards: split -> shards -> serialised examples."""
    root.mkdir(parents=True)
    (root / "features.json").write_text(json.dumps(features))
    splits = []
    for split, files in shards.items():
        for index, records in enumerate(files):
            file = root / f"{name}-{split}.tfrecord-{index:05d}-of-{len(files):05d}"
            file.write_bytes(b"".join(map(record, records)))
        splits.append({"name": split, "shardLengths": [str(len(records)) for records in files]})
    info = {"name": name, "version": "1.0.0", "fileFormat": "tfrecord", "splits": splits}
    (root / "dataset_info.json").write_text(json.dumps(info))
    return root
