import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from models_store import finite
from models_store.errors import ModelRejected
from models_store.finite import scan_non_finite


def write(path, dtype, bad=None, at=0):
    values = np.random.default_rng(0).standard_normal(10_001).astype(dtype)
    if bad is not None:
        values[at] = bad
    save_file({"good": np.arange(7, dtype=dtype), "weights": values}, path)
    return path


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 5_000, 10_000])
def test_a_value_that_is_not_finite_is_found_and_its_tensor_named(tmp_path, monkeypatch, dtype, bad, at):
    monkeypatch.setattr(finite, "_CHUNK_BYTES", 1024)
    assert scan_non_finite(write(tmp_path / "m.safetensors", dtype, bad, at)) == "weights"


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_finite_weights_pass(tmp_path, dtype):
    path = write(tmp_path / "m.safetensors", dtype, np.finfo(dtype).max)
    assert scan_non_finite(path) is None


@pytest.mark.parametrize(
    ("bits", "found"), [(0x7F80, True), (0xFF80, True), (0x7FC1, True), (0x7F7F, False), (0x0001, False)]
)
def test_bfloat16_is_judged_by_its_exponent(tmp_path, bits, found):
    data = np.array([0x3F80, bits, 0x0000], "<u2").tobytes()
    header = json.dumps({"w": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}).encode()
    path = tmp_path / "m.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    assert (scan_non_finite(path) == "w") is found


def test_a_folder_is_scanned_whole_and_whole_numbers_are_left_alone(tmp_path):
    save_file({"ids": np.full(3, -1, np.int64)}, tmp_path / "model-1.safetensors")
    assert scan_non_finite(tmp_path) is None
    save_file({"late": np.array([np.nan], np.float32)}, tmp_path / "model-2.safetensors")
    assert scan_non_finite(tmp_path) == "late"


def test_a_truncated_file_is_refused(tmp_path):
    path = write(tmp_path / "m.safetensors", np.float32)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelRejected, match=r"m\.safetensors"):
        scan_non_finite(path)
