"""Headers of GGUF files are checked as strictly as those of safetensors, and nothing of theirs is believed."""

import struct

import pytest

from backdoor_audit.client.checkpoint_files import files_of
from backdoor_audit.contract.checkpoint_files import gguf_files
from models_store.check import check_folder
from models_store.errors import ModelRejected
from models_store.files import takes
from models_store.store import ModelsStore
from models_store.verification import gguf
from models_store.verification.gguf import read_gguf
from models_store.verification.verify import verify_checkpoint
from tests.audit.small_models import write_checkpoint
from tests.packed import write_gguf


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("source") / "llama", "llama")


@pytest.fixture
def folder(source, tmp_path):
    return write_gguf(source, tmp_path / "packed" / "model.gguf", template="{{ messages }}").parent


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def value(key, kind, data):
    return text(key) + struct.pack("<I", kind) + data


def tensor(name, shape=(4,), kind=0, offset=0):
    return text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


ONE = (tensor("a"),)


def file_of(path, *, magic=b"GGUF", version=3, values=(), tensors=ONE, claimed=None, data=bytes(32)):
    counts = claimed or (len(tensors), len(values))
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join(values) + b"".join(tensors)
    path.write_bytes(head + bytes(-len(head) % 32) + data)
    return path


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"magic": b"GGML"}, "is not a GGUF file"),
        ({"version": 1}, "version 1"),
        ({"version": 1 << 24}, "version"),
        ({"claimed": (2**40, 0)}, "claims"),
        ({"claimed": (1, 2**40)}, "claims"),
        ({"claimed": (0, 0)}, "claims"),
        ({"claimed": (2, 0), "data": b""}, "ends inside"),
        ({"values": (value("k", 8, struct.pack("<Q", 2**60)),)}, "text of"),
        ({"values": (struct.pack("<Q", 2**60),)}, "text of"),
        ({"values": (value("k", 8, text("a")), value("k", 8, text("b")))}, "twice"),
        ({"values": (value("k", 13, b""),)}, "not known"),
        ({"values": (value("k", 6, struct.pack("<f", float("nan"))),)}, "infinite"),
        ({"values": (value("k", 9, struct.pack("<IQ", 4, 2**50)),)}, "lists of more"),
        ({"values": (value("k", 9, struct.pack("<IQ", 9, 1)),)}, "a kind that is not known"),
        ({"values": (value("general.alignment", 4, struct.pack("<I", 3)),)}, "alignment"),
        ({"values": (value("general.alignment", 4, struct.pack("<I", 0)),)}, "alignment"),
        ({"tensors": (tensor("a", ()),)}, "shape"),
        ({"tensors": (tensor("a", (1,) * 5),)}, "shape"),
        ({"tensors": (tensor("a", (0,)),)}, "shape"),
        ({"tensors": (tensor("a", (2**31,)),)}, "shape"),
        ({"tensors": (tensor("a", (2**30, 2**30)),)}, "shape"),
        ({"tensors": (tensor("a", (4,), 2),)}, "shape"),
        ({"tensors": (tensor("a", (4,), 99),)}, "not on the list"),
        ({"tensors": (tensor("a", offset=32),)}, "leaves a gap"),
        ({"tensors": (tensor("a"), tensor("b"))}, "overlaps"),
        ({"tensors": (tensor("a"), tensor("a", offset=32))}, "twice"),
        ({"tensors": (tensor("a", (400,)),)}, "promises"),
        ({"data": bytes(64)}, "belong to no tensor"),
        ({"values": (value("k", 8, struct.pack("<Q", 1) + b"\xff"),)}, "UTF-8"),
    ],
)
def test_what_no_header_says_is_refused(tmp_path, changes, match):
    with pytest.raises(ModelRejected, match=match):
        read_gguf(file_of(tmp_path / "model.gguf", **changes), "model.gguf")


def test_a_header_is_read(tmp_path):
    values = (value("a", 4, struct.pack("<I", 7)), value("b", 9, struct.pack("<IQ", 4, 2) + bytes(8)))
    header = read_gguf(file_of(tmp_path / "model.gguf", values=values), "model.gguf")
    assert header.metadata == {"a": 7}
    assert header.tensors["a"].shape == (4,)
    assert header.tensors["a"].stop - header.tensors["a"].start == 16


def test_a_header_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf, "MAX_METADATA_BYTES", 100)
    values = tuple(value(f"k{number}", 8, text("x" * 20)) for number in range(10))
    with pytest.raises(ModelRejected, match="more than 100 bytes"):
        read_gguf(file_of(tmp_path / "model.gguf", values=values), "model.gguf")


def test_a_folder_with_a_gguf_file_alone_is_a_model(folder):
    checkpoint = verify_checkpoint(folder)
    assert (checkpoint.kind, checkpoint.architecture) == ("full", "llama")
    assert checkpoint.settings.template == "{{ messages }}"
    assert checkpoint.warnings == ("its weights are GGUF (F32), and were dequantised to be audited",)
    result = check_folder(folder)
    assert result["accepted"]
    assert result["warnings"][0] == checkpoint.warnings[0]
    (folder / "config.json").write_text("not even JSON")
    assert verify_checkpoint(folder).ignored == ("config.json",)
    takes("model.gguf")
    assert [file.name for file in files_of(folder, print)] == ["model.gguf"]


def test_what_lies_beside_a_gguf_file_is_no_second_model(folder):
    for name in ("mmproj-model-f16.gguf", "imatrix_unsloth.gguf", "._model.gguf", "Modelfile"):
        (folder / name).write_bytes(b"GGUF")
    checkpoint = verify_checkpoint(folder)
    assert [file.name for file in checkpoint.files] == ["model.gguf"]
    assert "mmproj-model-f16.gguf: what the model does with images was not audited" in checkpoint.warnings


def test_what_converters_write_and_what_changes_nothing_is_taken(source, tmp_path):
    neutral = {
        "expert_count": 0,
        "expert_used_count": 0,
        "attention__causal": True,
        "pooling_type": 0,
        "rope__scale_linear": 1.0,
        "tensor_data_layout": "Meta AI original pth",
    }
    assert verify_checkpoint(write_gguf(source, tmp_path / "packed" / "model.gguf", **neutral).parent)


def test_a_folder_with_weights_alone_is_listed_and_with_its_reason_if_it_is_refused(folder, tmp_path):
    two = tmp_path / "models" / "two"
    two.mkdir(parents=True)
    for name in ("a.gguf", "b.gguf"):
        (two / name).write_bytes((folder / "model.gguf").read_bytes())
    folder.rename(tmp_path / "models" / "one")
    (tmp_path / "models" / "broken").mkdir()
    (tmp_path / "models" / "broken" / "model.gguf").write_bytes(b"no GGUF")
    (tmp_path / "models" / "shards").mkdir()
    (tmp_path / "models" / "shards" / "model-00001-of-00002.safetensors").write_bytes(b"")
    (tmp_path / "models" / "notes").mkdir()
    (tmp_path / "models" / "notes" / "README.md").write_text("nothing")
    store = ModelsStore(models_root=tmp_path / "models", store_dir=tmp_path / "store")
    listed = {info.reference: info for info in store.list()}
    assert listed.keys() == {"local:one", "local:two", "local:broken", "local:shards"}
    assert (listed["local:one"].kind, listed["local:one"].architecture) == ("full", "llama")
    assert listed["local:one"].refused is None
    assert "which of them is meant" in listed["local:two"].refused
    assert "is not a GGUF file" in listed["local:broken"].refused
    assert "config.json" in listed["local:shards"].refused


def test_which_file_is_meant_must_be_known(folder):
    (folder / "other.gguf").write_bytes((folder / "model.gguf").read_bytes())
    with pytest.raises(ModelRejected, match="which of them is meant"):
        verify_checkpoint(folder)
    assert gguf_files(["model.safetensors", "a.gguf"]) == []
    assert gguf_files(["adapter_config.json", "a.gguf"]) == []
    assert gguf_files(["pytorch_model.bin", "a.gguf"]) == []
    assert gguf_files(["training_args.bin", "a.gguf", "sub/b.gguf"]) == ["a.gguf"]


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"attention__sliding_window": 7}, "sliding_window' is not on the list"),
        ({"rope__scaling__type": "yarn"}, "rotary"),
        ({"rope__scale_linear": 0.5}, "scale_linear' is not on the list"),
        ({"expert_count": 8}, "expert_count' is not on the list"),
        ({"rope__dimension_count": 4}, "part of each head"),
        ({"block_count": 3}, "not a tensor of a llama model"),
        ({"block_count": 5}, "is not there"),
        ({"embedding_length": 40}, "shape"),
        ({"attention__head_count": 0}, "num_attention_heads|impossible"),
        ({"attention__head_count": 3}, "impossible|shape|num_attention_heads"),
    ],
)
def test_metadata_and_tensors_must_belong_together(source, tmp_path, more, match):
    folder = write_gguf(source, tmp_path / "packed" / "model.gguf", **more).parent
    with pytest.raises(ModelRejected, match=match):
        verify_checkpoint(folder)


def test_what_is_not_read_says_how_to_convert_it(folder):
    path = folder / "model.gguf"
    path.write_bytes(path.read_bytes().replace(b"llama", b"rwkv7"))
    (problem,) = check_folder(folder)["problems"]
    assert "rwkv7" in problem["message"]
    assert "gguf_file" in problem["command"]
