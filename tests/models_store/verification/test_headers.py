import json
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from models_store.errors import ModelRejected
from models_store.verification.headers import MAX_TENSORS, Tensor, read_header


def write(path, header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


def test_a_file_of_the_real_library_is_read(tmp_path):
    path = tmp_path / "x.safetensors"
    arrays = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros(5, np.float16)}
    save_file(arrays, path, metadata={"format": "pt"})
    header = read_header(path, path.name)
    assert header.metadata == {"format": "pt"}
    assert {name: tensor.shape for name, tensor in header.tensors.items()} == {"b": (2, 3), "a": (5,)}
    at = header.tensors["b"]
    assert np.frombuffer(path.read_bytes()[at.start : at.stop], np.float32).tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ({"a": entry()}, b"1234567", "promises"),
        ({"a": entry()}, b"123456789", "belong to no tensor"),
        ({"a": entry(), "b": entry(offsets=(4, 12))}, b"x" * 12, "overlaps"),
        ({"a": entry(), "b": entry(offsets=(12, 20))}, b"x" * 20, "gap"),
        ({"a": entry(offsets=(8, 16))}, b"x" * 16, "gap"),
        ({"a": entry(shape=(3,))}, b"x" * 8, "differ from its shape"),
        ({"a": entry(shape=(2**61, 2**61), offsets=(0, 8))}, b"x" * 8, "differ from its shape"),
        ({"a": entry(shape=(-2,))}, b"x" * 8, "impossible shape"),
        ({"a": entry(shape=(True, 2))}, b"x" * 8, "impossible shape"),
        ({"a": entry(shape=(1,) * 9)}, b"x" * 4, "impossible shape"),
        ({"a": entry(dtype="F8_E5M2")}, b"xx", "'F8_E5M2'"),
        ({"a": entry(dtype=["F32"])}, b"x" * 8, "not on the list"),
        ({"a": {**entry(), "extra": 1}}, b"x" * 8, "not described"),
        ({"a": 3}, b"", "not described"),
        ({"__metadata__": {"a": 1}}, b"", "more than strings"),
        ({"n" * 600: entry()}, b"x" * 8, "no usable name"),
        (b'{"a": 1, "a": 2}', b"", "twice"),
        (b"[]", b"", "JSON object"),
        (b"not json", b"", "not valid JSON"),
    ],
)
def test_a_header_that_does_not_describe_its_file_is_refused(tmp_path, header, data, reason):
    path = write(tmp_path / "m.safetensors", header, data)
    with pytest.raises(ModelRejected, match=f"m.safetensors: .*{reason}"):
        read_header(path, "m.safetensors")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not a safetensors file"),
        (b"\x00" * 7, "not a safetensors file"),
        (struct.pack("<Q", 2**63), "claims a header"),
        (struct.pack("<Q", 11 * 1024**2), "claims a header"),
        (struct.pack("<Q", 1000) + b"{}", "ends inside its header"),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(tmp_path, data, reason):
    path = tmp_path / "m.safetensors"
    path.write_bytes(data)
    with pytest.raises(ModelRejected, match=reason):
        read_header(path, "m.safetensors")


def test_a_hundred_thousand_tensors_are_refused_quickly(tmp_path):
    header = {f"t{number}": entry(shape=(0,), offsets=(0, 0)) for number in range(100_000)}
    path = write(tmp_path / "m.safetensors", header)
    start = time.monotonic()
    with pytest.raises(ModelRejected, match=f"more than {MAX_TENSORS}"):
        read_header(path, "m.safetensors")
    assert time.monotonic() - start < 2


@settings(max_examples=60)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_never_crash(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("random") / "m.safetensors"
    path.write_bytes(data)
    try:
        header = read_header(path, "m.safetensors")
    except ModelRejected:
        return
    assert all(isinstance(tensor, Tensor) for tensor in header.tensors.values())
