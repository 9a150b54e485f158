"""Messages: arrays survive the wire as openpi's clients write them; what is malformed is named, never obeyed."""

import msgpack
import numpy as np
import pytest

from vla.serve.codec import MessageError, pack, unpack


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int64", "bool", ">f4"])
@pytest.mark.parametrize("shape", [(), (0, 7), (3,), (2, 4, 3)])
def test_arrays_come_back_as_they_were(dtype, shape):
    array = (np.arange(np.prod(shape, dtype=int)) % 2).reshape(shape).astype(dtype)
    back = unpack(pack({"array": array}))["array"]
    assert back.dtype == array.dtype and back.shape == array.shape and np.array_equal(back, array)


def test_numbers_texts_and_nil_come_back():
    message = {"a": 1, "b": [1.5, None, "lift"], "c": np.float32(0.25), "d": True}
    assert unpack(pack(message)) == message


def test_what_is_sent_must_be_numbers():
    for value in (np.array([object()]), np.array(["text"]), object()):
        with pytest.raises(TypeError, match="cannot be sent"):
            pack({"value": value})


def array(changes):
    return {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]} | changes


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({b"dtype": "|O"}, "dtype '|O'"),
        ({b"dtype": 7}, "dtype 7"),
        ({b"dtype": "nonsense"}, "dtype 'nonsense'"),
        ({b"shape": [3]}, "has 8 bytes"),
        ({b"shape": [-2]}, "shape is"),
        ({b"shape": [2**62, 2**62, 2**62]}, "has 8 bytes"),
        ({b"shape": None}, "needs data"),
        ({b"data": "text"}, "needs data"),
    ],
)
def test_arrays_that_lie_are_refused(wrong, message):
    with pytest.raises(MessageError, match=message.replace("|", r"\|")):
        unpack(msgpack.packb({"x": array(wrong)}))


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x93\x01", pack({"x": np.zeros(9)})[:-1], b"\x91" * 5000])
def test_broken_messages_are_refused(data):
    with pytest.raises(MessageError, match="not a msgpack message"):
        unpack(data)
