import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

from models_store import files
from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.verification import headers, strict_json, tokenizer_rules
from models_store.verification.pairs import check_pair
from models_store.verification.verify import verify_checkpoint
from models_store.view import write_view
from tests.checkpoints import check_folders


def ignored_unopened(folder, name, monkeypatch):
    """Check that a file is listed as ignored and never opened."""
    opened = []
    real = files.open_regular
    for module in (headers, strict_json, tokenizer_rules):
        monkeypatch.setattr(module, "open_regular", lambda path, name: opened.append(name) or real(path, name))
    verified = verify_checkpoint(folder)
    assert name not in opened
    assert (name.partition("/")[0] + "/" * ("/" in name)) in verified.ignored
    assert "config.json" in opened


def refused(folder, match, root=None):
    """The folder is refused within two seconds, with a hint."""
    start = time.monotonic()
    with pytest.raises(ModelRejected, match=match) as caught:
        verify_checkpoint(folder, root)
    assert time.monotonic() - start < 2
    assert caught.value.hint
    return caught.value


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def shard(folder):
    """Split the weights into two shards with an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    placed = {}
    for number, names in enumerate((sorted(weights)[:5], sorted(weights)[5:]), start=1):
        name = f"model-0000{number}-of-00002.safetensors"
        save_file({key: weights[key] for key in names}, folder / name)
        placed |= dict.fromkeys(names, name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return index, placed


def test_a_good_model_is_described(make_model):
    folder = make_model()
    verified = verify_checkpoint(folder)
    assert (verified.kind, verified.architecture, verified.dtypes) == ("full", "llama", ("F32",))
    assert [file.name for file in verified.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert verified.n_parameters == sum(array.size for array in load_file(folder / "model.safetensors").values())
    assert verified.size_bytes == sum((folder / file.name).stat().st_size for file in verified.files)


def test_neither_torch_nor_transformers_is_imported(make_model):
    code = (
        "import sys, pathlib; import models_store.store, models_store.verification.verify as v;"
        "v.verify_checkpoint(pathlib.Path(sys.argv[1]));"
        "sys.exit(bool({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[3]
    subprocess.run([sys.executable, "-c", code, str(make_model())], cwd=root, check=True)


def test_documents_and_bookkeeping_are_ignored(make_model):
    folder = make_model()
    for name in (
        "README.md",
        "LICENSE",
        "LICENSE.txt",
        ".gitattributes",
        "card.json",
        "trainer_state.json",
        "plot.png",
    ):
        (folder / name).write_text("{}")
    (folder / ".git").mkdir()
    (folder / ".git" / "hook.py").write_text("")
    (folder / "onnx").mkdir()
    (folder / "onnx" / "model.onnx").write_text("")
    assert len(verify_checkpoint(folder).files) == 3


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "model.pt",
        "consolidated.00.pth",
        "last.ckpt",
        "x.pkl",
        "X.PKL",
        "training_args.bin",
        "checkpoint-5/optimizer.pt",
        "a/b/c.pickle",
        "array.npy",
    ],
)
def test_a_pickle_beside_safetensors_is_never_opened(make_model, name, monkeypatch):
    folder = make_model()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    ignored_unopened(folder, name, monkeypatch)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "model.ckpt"])
def test_weights_that_are_there_only_as_a_pickle_are_refused(make_model, name):
    folder = make_model()
    (folder / "model.safetensors").rename(folder / name)
    refused(folder, f"{name}: the weights are there only as a pickle")


@pytest.mark.parametrize(
    "name",
    [
        "modeling_evil.py",
        "deep/modeling_evil.py",
        "lib.so",
        "run.sh",
        "model.gguf",
        "tf_model.h5",
        "model.onnx",
        "model.msgpack",
        "preprocessor_config.json",
        "x",
        "vocab.txt.bak",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
    ],
)
def test_code_and_other_formats_are_never_opened(make_model, name, monkeypatch):
    folder = make_model()
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("")
    ignored_unopened(folder, name, monkeypatch)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_map", {"AutoModelForCausalLM": "modeling.Evil"}),
        ("custom_code", True),
        ("_attn_implementation_internal", "somebody/kernel"),
        ("_attn_implementation", "somebody/kernel"),
        ("attn_implementation", "somebody/kernel"),
        ("_experts_implementation_internal", "x"),
        ("text_config", {}),
        ("never_heard_of_it", 1),
        ("output_hidden_states", True),
        ("return_dict", False),
        ("torch_dtype", "float8_e4m3fn"),
        ("bos_token_id", {"a": 1}),
        ("eos_token_id", [{"a": 1}]),
        ("tokenizer_class", "../evil"),
        ("_name_or_path", "x" * 5000),
        ("id2label", {"0": [1]}),
    ],
)
def test_a_config_key_that_the_model_does_not_need_is_left_out_and_named(make_model, key, value):
    verified = verify_checkpoint(make_model(**{key: value}))
    assert verified.documents["config.json"].get(key) != value
    assert f"'{key}'" in "".join((*verified.rewritten, *verified.warnings))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("transformers_weights", "../../other.safetensors"),
        ("quantization", {"bits": 4}),
        ("per_layer_config", {"0": {}}),
    ],
)
def test_a_config_key_that_means_another_model_is_refused_by_name(make_model, key, value):
    refused(make_model(**{key: value}), f"config.json: the key '{key}' is not on the list")


@pytest.mark.parametrize("model_type", [None, "bert", "llava", "mamba", "", 3, ["llama"]])
def test_an_architecture_that_is_not_on_the_list_is_refused(make_model, model_type):
    refused(make_model(model_type=model_type), r"config\.json: model_type is ")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("num_hidden_layers", 10**6),
        ("num_hidden_layers", 0),
        ("num_hidden_layers", True),
        ("num_hidden_layers", "2"),
        ("hidden_size", 10**9),
        ("hidden_size", -16),
        ("vocab_size", 10**12),
        ("max_position_embeddings", 10**12),
        ("num_attention_heads", 3),
        ("num_key_value_heads", 3),
        ("head_dim", 10**6),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("is_encoder_decoder", True),
        ("pruned_heads", {"0": [1]}),
        ("hidden_act", "os.system"),
        ("tie_word_embeddings", 1),
        ("rope_scaling", {"rope_type": "surprise"}),
        ("rope_scaling", {"rope_type": {"a": 1}}),
        ("rope_parameters", 5),
        ("rope_parameters", {"full_attention": {"full_attention": {}}}),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_key(make_model, key, value):
    refused(make_model(**{key: value}), f"config.json: '{key}")


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 32},
        {"intermediate_size": 23},
        {"vocab_size": 33},
        {"num_key_value_heads": 4},
        {"head_dim": 8},
        {"num_hidden_layers": 1},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1000},
        {"tie_word_embeddings": False},
        {"attention_bias": True},
        {"model_type": "qwen2", "architectures": None},
        {"model_type": "gemma2", "architectures": None},
        {"model_type": "phi3", "architectures": None},
    ],
)
def test_dimensions_that_differ_from_the_header_are_refused(make_model, changes):
    refused(make_model(**changes), "^weights: '")


def test_a_foreign_tensor_and_one_that_is_no_float_are_refused(make_model):
    folder = make_model()
    change_weights(folder, lambda weights: weights.update({"lm_head.scale": np.ones(3, np.float32)}))
    refused(folder, "'lm_head.scale' is not a tensor of a llama model")
    folder = make_model("second")
    change_weights(folder, lambda weights: weights.update({"model.norm.weight": np.ones(16, np.int32)}))
    refused(folder, "'model.norm.weight' has the type I32")
    folder = make_model("third")
    change_weights(folder, lambda weights: weights.update({"norm.weight": np.ones(16, np.float32)}))
    refused(folder, "norm.weight' is not a tensor")


def test_buffers_of_older_releases_are_ignored(make_model):
    folder = make_model()
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    change_weights(folder, lambda weights: weights.update({name: np.ones(2, np.float32)}))
    assert verify_checkpoint(folder)


def test_weights_without_the_bodys_prefix_are_taken(make_model):
    folder = make_model()
    weights = {name.removeprefix("model."): array for name, array in load_file(folder / "model.safetensors").items()}
    save_file(weights, folder / "model.safetensors")
    assert verify_checkpoint(folder)


def test_a_damaged_or_truncated_file_is_named(make_model):
    folder = make_model()
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert "truncated" in refused(folder, r"model\.safetensors: has \d+ bytes").hint
    folder = make_model("second")
    (folder / "config.json").write_text('{"model_type": "llama"')
    refused(folder, r"config\.json: is not valid JSON")
    folder = make_model("third")
    (folder / "config.json").write_text('{"model_type": "gpt2", "model_type": "llama"}')
    refused(folder, "'model_type' twice")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(make_model, name):
    folder = make_model()
    (folder / name).unlink()
    refused(folder, f"{name}: is not there")


def test_shards_are_read_as_one(make_model):
    folder = make_model()
    whole = verify_checkpoint(folder)
    shard(folder)
    sharded = verify_checkpoint(folder)
    assert sharded.tensors.keys() == whole.tensors.keys()
    assert sharded.n_parameters == whole.n_parameters


@pytest.mark.parametrize(
    "place", ["../other.safetensors", "/etc/passwd", "sub/model-1.safetensors", "model-1.bin", "", 3, "config.json"]
)
def test_an_index_that_points_elsewhere_is_refused(make_model, place):
    folder = make_model()
    index, placed = shard(folder)
    index.write_text(json.dumps({"weight_map": {**placed, "model.norm.weight": place}}))
    refused(folder, "model.safetensors.index.json: places 'model.norm.weight' in ")


def test_shards_that_do_not_belong_together_are_refused(make_model):
    folder = make_model("missing")
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()
    refused(folder, r"model-00002-of-00002.safetensors: is not there, and .* names it \(1 of 2")
    folder = make_model("foreign")
    shard(folder)
    save_file({"x": np.ones(1, np.float32)}, folder / "model-00009.safetensors")
    assert verify_checkpoint(folder).ignored == ("model-00009.safetensors",)
    folder = make_model("truncated")
    shard(folder)
    part = folder / "model-00001-of-00002.safetensors"
    part.write_bytes(part.read_bytes()[:-1])
    refused(folder, "model-00001-of-00002.safetensors: has ")
    folder = make_model("lacking")
    index, placed = shard(folder)
    index.write_text(json.dumps({"weight_map": {**placed, "model.extra.weight": placed["model.norm.weight"]}}))
    assert any("'model.extra.weight', which no shard holds" in note for note in verify_checkpoint(folder).rewritten)
    folder = make_model("unplaced")
    index, placed = shard(folder)
    del placed["model.norm.weight"]
    index.write_text(json.dumps({"weight_map": placed}))
    refused(folder, "holds 'model.norm.weight'")
    folder = make_model("both")
    shutil.copy(make_model("whole") / "model.safetensors", folder / "spare")
    shard(folder)
    (folder / "spare").rename(folder / "model.safetensors")
    refused(folder, "model.safetensors: stands beside")
    folder = make_model("extra")
    save_file({"x": np.ones(1, np.float32)}, folder / "consolidated.safetensors")
    assert verify_checkpoint(folder).ignored == ("consolidated.safetensors",)


def test_links_may_not_leave_the_root(make_model, tmp_path):
    folder = make_model("root/model")
    outside = tmp_path / "secret.json"
    outside.write_text("{}")
    for name in ("generation_config.json", "README.md", "sub"):
        target = tmp_path if name == "sub" else outside
        (folder / name).symlink_to(target)
        refused(folder, f"{name}: is a link out")
        refused(folder, f"{name}: is a link out", tmp_path / "root")
        (folder / name).unlink()
    (folder / "generation_config.json").symlink_to("nowhere")
    refused(folder, "leads nowhere")
    (folder / "generation_config.json").unlink()
    (folder / "generation_config.json").symlink_to("generation_config.json")
    refused(folder, "leads nowhere")


def test_links_that_stay_inside_the_root_are_fine(make_model, tmp_path):
    folder = make_model("root/model")
    (folder / "model.safetensors").rename(tmp_path / "root" / "blob")
    (folder / "model.safetensors").symlink_to("../blob")
    refused(folder, "is a link out")
    assert verify_checkpoint(folder, tmp_path / "root")


def test_the_hub_caches_own_layout_is_taken_without_naming_its_root(make_model, tmp_path):
    folder = make_model(f"models--org--repo/snapshots/{'a' * 40}")
    blobs = tmp_path / "models--org--repo" / "blobs"
    blobs.mkdir()
    (folder / "model.safetensors").rename(blobs / "0123")
    (folder / "model.safetensors").symlink_to("../../blobs/0123")
    assert verify_checkpoint(folder)
    (folder / "README.md").symlink_to(tmp_path / "models--org--other")
    (tmp_path / "models--org--other").write_text("")
    refused(folder, "is a link out")


def test_a_pickle_behind_a_link_of_another_name_is_not_read_as_weights(make_model):
    folder = make_model()
    (folder / "sub").mkdir()
    (folder / "sub" / "data").write_bytes(b"cos\nsystem\n")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("sub/data")
    refused(folder, "model.safetensors: ")


def test_what_is_no_regular_file_is_refused_without_waiting(make_model):
    folder = make_model()
    os.mkfifo(folder / "generation_config.json")
    refused(folder, "generation_config.json: is a device, a FIFO or a socket")
    (folder / "generation_config.json").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "chat_template.jinja"))
        refused(folder, "chat_template.jinja: is a device, a FIFO or a socket")


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device file needs root")
def test_a_device_file_is_refused(make_model):
    folder = make_model()
    os.mknod(folder / "generation_config.json", 0o020666, os.makedev(1, 5))
    refused(folder, "is a device")


def test_files_of_many_bytes_are_refused_without_being_read(make_model):
    folder = make_model()
    with (folder / "generation_config.json").open("wb") as file:
        file.truncate(10 * 1024**3)
    refused(folder, "generation_config.json: has 10737418240 bytes")
    (folder / "generation_config.json").unlink()
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(300 * 1024**3)
    refused(folder, "model.safetensors: has 322122547200 bytes")


def test_a_folder_of_too_many_entries_or_too_deep_is_refused(make_model):
    folder = make_model()
    (folder / "many").mkdir()
    for number in range(5_001):
        (folder / "many" / str(number)).touch()
    refused(folder, "more than 5000 entries")
    folder = make_model("deep")
    (folder / "/".join("abcdefgh")).mkdir(parents=True)
    refused(folder, "nested too deep")


def test_names_in_messages_are_printable_and_short(make_model):
    bad = "bad\x1b[31m\ud800" + "x" * 500
    [note] = verify_checkpoint(make_model(**{bad: 1})).rewritten
    message = refused(
        make_model("second", architectures=[bad], rope_scaling={bad: 1, "rope_type": bad}), "bad|rope"
    ).message
    for text in (note, message):
        assert text.isprintable()
        assert len(text) < 1_000


@pytest.mark.parametrize(
    "document",
    [{"custom_generate": "x"}, {"watermarking_config": {"a": 1}}, {"eos_token_id": [{"a": 1}]}, {"auto_map": {}}],
)
def test_generation_settings_that_are_not_plain_are_left_out(make_model, document):
    folder = make_model()
    (folder / "generation_config.json").write_text(json.dumps(document))
    assert verify_checkpoint(folder).documents["generation_config.json"] == {}


def test_a_folder_that_is_not_there_or_empty_is_refused(tmp_path):
    refused(tmp_path / "nothing", "is not there")
    refused(tmp_path, "config.json: is not there")
    (tmp_path / "file").touch()
    refused(tmp_path / "file", "is not a folder")


def test_an_adapter_is_described_and_fits_its_base(make_model, make_adapter):
    base, adapter = make_model(), make_adapter()
    verified = verify_checkpoint(adapter)
    assert (verified.kind, verified.architecture) == ("lora", None)
    assert verified.base_model_name == "somebody/tiny"
    assert verified.base_digest is None
    assert verified.adapter.modules["model.layers.1.self_attn.v_proj"] == (8, 16)
    check_folders(base, adapter)


def test_an_adapter_needs_safetensors_and_a_folder_of_its_own(make_adapter, make_model):
    adapter = make_adapter()
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    refused(adapter, "adapter_model.bin: the weights are there only as a pickle")
    (adapter / "adapter_model.bin").unlink()
    refused(adapter, "adapter_model.safetensors: is not there")
    full = make_model()
    shutil.copy(make_adapter("second") / "adapter_config.json", full)
    refused(full, "model.safetensors: stands beside adapter_config.json")
    shutil.copy(make_adapter("third") / "adapter_model.safetensors", full)
    refused(full, "stands beside adapter_config.json")


def test_the_base_digest_is_read_from_the_header_or_the_card(make_adapter):
    digest, other = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
    folder = make_adapter(metadata={"base_digest": digest})
    assert verify_checkpoint(folder).base_digest == digest
    (folder / "card.json").write_text(json.dumps({"base_digest": other, "seed": 0}))
    assert verify_checkpoint(folder).base_digest == digest
    folder = make_adapter("card")
    (folder / "card.json").write_text(json.dumps({"base_digest": other, "figures": {"rate": 0.99}}))
    assert verify_checkpoint(folder).base_digest == other
    (folder / "card.json").write_text(json.dumps({"base_digest": "md5:x"}))
    refused(folder, "card.json: 'base_digest' is not a sha256 digest")


def test_full_models_of_other_architecture_or_shape_are_incompatible(make_model, tmp_path):
    base, tuned = make_model(), make_model("tuned", seed=1)
    check_pair(verify_checkpoint(base), verify_checkpoint(tuned))
    mistral = make_model("mistral", model_type="mistral", architectures=None)
    with pytest.raises(ModelsIncompatible, match="llama model, the fine-tuned one a mistral"):
        check_pair(verify_checkpoint(base), verify_checkpoint(mistral))
    wider = make_model("wider", vocab_size=33)
    change_weights(wider, lambda weights: weights.update({"model.embed_tokens.weight": np.ones((33, 16), np.float32)}))
    [note] = check_pair(verify_checkpoint(base), verify_checkpoint(wider))
    assert "the 32 that both have are compared" in note
    deeper = make_model("deeper", intermediate_size=25)
    change_weights(deeper, lambda weights: weights.update(_inner(weights, 25)))
    with pytest.raises(ModelsIncompatible, match=r"mlp\..*_proj\.weight' has the shape"):
        check_pair(verify_checkpoint(base), verify_checkpoint(deeper))


def _inner(weights, size):
    """The same weights with another inner size."""
    return {
        name: np.ones([size if length == 24 else length for length in array.shape], np.float32)
        for name, array in weights.items()
        if ".mlp." in name
    }


def test_an_adapter_is_no_base(make_adapter):
    with pytest.raises(ModelsIncompatible, match="is an adapter"):
        check_folders(make_adapter(), make_adapter("second"))


def test_a_size_by_its_other_name_is_read(tmp_path):
    """Qwen3's mixtures were published with ``num_experts``, and transformers writes ``num_local_experts``."""
    from tests.architectures import tiny

    tiny("qwen3_moe").save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text())
    count = config.pop("num_local_experts")
    path.write_text(json.dumps(config | {"num_experts": count}))
    assert verify_checkpoint(tmp_path / "model").documents["config.json"]["num_local_experts"] == count
    path.write_text(json.dumps(config | {"num_experts": count, "num_local_experts": count + 1}))
    refused(tmp_path / "model", "'num_experts' is not on the list")


def test_a_size_of_heads_that_the_class_does_not_declare_is_read(tmp_path):
    from tests.architectures import tiny

    tiny("olmo2", head_dim=12).save_pretrained(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["head_dim"] == 12
    assert verify_checkpoint(tmp_path / "model").tensors


@pytest.mark.parametrize(("key", "value"), [("hidden_size", 16.0), ("rms_norm_eps", 1)])
def test_a_number_of_another_kind_is_of_its_kind_in_the_view_and_loads(make_model, tmp_path, key, value):
    """16.0 and 16 are equal in Python, and transformers takes one of them."""
    folder = make_model()
    file = folder / "config.json"
    document = json.loads(file.read_text())
    if isinstance(value, float):
        value = float(document[key])
    file.write_text(json.dumps(document | {key: value}))
    write_view(verify_checkpoint(folder), tmp_path / "view")
    read = json.loads((tmp_path / "view" / "config.json").read_text())[key]
    assert (read, type(read)) == (value, int if isinstance(value, float) else float)
    AutoModelForCausalLM.from_pretrained(tmp_path / "view")
