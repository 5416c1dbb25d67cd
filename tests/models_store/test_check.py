import json
import subprocess
import sys
from pathlib import Path

import pytest

from models_store.check import check_folder
from models_store.verification.verify import verify_checkpoint
from tests.models_store.wild.cases import REFUSED, TAKEN
from tests.models_store.wild.folders import PICKLE, Folder

KEYS = {"accepted", "kind", "summary", "ignored", "rewritten", "warnings", "problems"}


@pytest.mark.parametrize("case", [*TAKEN, *REFUSED], ids=lambda case: case.name)
def test_the_check_says_what_the_store_does(tmp_path, case):
    folder, base = case.folder.write(tmp_path / "tuned"), case.base.write(tmp_path / "base")
    alone = case.folder.like != "lora" and case.way != "pair" and case in TAKEN
    result = check_folder(folder, None if alone or case.way == "folder" else base)
    assert result["accepted"] is (case in TAKEN)
    assert result.keys() == KEYS
    assert json.loads(json.dumps(result)) == result
    for problem in result["problems"]:
        assert problem.keys() == {"file", "key", "code", "message", "command"}
        assert problem["message"]
        assert problem["command"]


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    changes = {"config.json": {"hidden_act": "os.system"}, "tokenizer_config.json": {"chat_template": 1}}
    folder = Folder("llama", changes=changes, without=("model.safetensors",), beside={"pytorch_model.bin": PICKLE})
    result = check_folder(folder.write(tmp_path / "model"))
    problems = {(problem["file"], problem["key"]): problem for problem in result["problems"]}
    assert problems.keys() == {
        ("config.json", "hidden_act"),
        ("pytorch_model.bin", ""),
        ("tokenizer_config.json", "chat_template"),
    }
    command = problems["pytorch_model.bin", ""]["command"]
    assert command.startswith("python -c")
    assert command.endswith(f"{tmp_path}/model {tmp_path}/model-safetensors")


def test_what_is_mended_is_a_checkpoint_of_its_own(tmp_path):
    changes = {"adapter_config.json": {"target_modules": r".*\.[qv]_proj", "auto_mapping": {"a": "b"}}}
    folder = Folder("lora", changes=changes, beside={"optimizer.pt": PICKLE}).write(tmp_path / "adapter")
    mended = tmp_path / "mended"
    assert check_folder(folder, fix_into=mended)["accepted"]
    assert sorted(path.name for path in mended.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert not any(path.is_symlink() for path in mended.iterdir())
    again = verify_checkpoint(mended)
    assert (again.ignored, again.rewritten, again.warnings) == ((), (), ())
    with pytest.raises(OSError, match="not empty"):
        check_folder(folder, fix_into=mended)
    refused = Folder("lora", rank=8).write(tmp_path / "refused")
    assert not check_folder(refused, fix_into=tmp_path / "never")["accepted"]
    assert not (tmp_path / "never").exists()


def test_a_folder_above_the_checkpoint_is_told_where_to_look(tmp_path):
    Folder("lora").write(tmp_path / "run" / "checkpoint-20")
    [problem] = check_folder(tmp_path / "run")["problems"]
    assert "checkpoint-20" in problem["command"]


def test_nothing_of_torch_is_imported(tmp_path):
    folder = Folder("lora").write(tmp_path / "adapter")
    code = (
        "import sys, pathlib; from models_store.check import check_folder; check_folder(pathlib.Path(sys.argv[1]));"
        "sys.exit(bool({'torch', 'transformers', 'peft', 'numpy', 'tokenizers'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], cwd=Path(__file__).parents[2], check=True)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, None),
        ({"padding": {"strategy": "BatchLongest"}}, None),
        ({"pre_tokenizer": {"type": "ByteLevel"}}, "'pre_tokenizer'"),
        ({"post_processor": {"type": "ByteLevel"}, "added_tokens": [{}]}, "'added_tokens', 'post_processor'"),
    ],
)
def test_a_tokenizer_that_differs_from_the_bases_is_named(tmp_path, changes, named):
    base = Folder("llama").write(tmp_path / "base")
    tuned = Folder("llama", changes={"tokenizer.json": changes}).write(tmp_path / "tuned")
    warnings = check_folder(tuned, base)["warnings"]
    assert warnings == [] if named is None else named in warnings[0]


def test_settings_of_both_folders_are_compared(tmp_path):
    base, plain = Folder("llama").write(tmp_path / "base"), Folder("lora").write(tmp_path / "plain")
    assert check_folder(plain, base)["warnings"] == []
    beside = {
        "chat_template.jinja": b"{{ messages }}",
        "generation_config.json": b'{"do_sample": true}',
        "special_tokens_map.json": b'{"eos_token": {"content": "<end>"}}',
    }
    found = check_folder(Folder("lora", beside=beside).write(tmp_path / "adapter"), base)
    assert found["accepted"]
    assert not set(beside) & set(found["ignored"])
    template, tokens, generation = found["warnings"]
    assert template == "the fine-tuned model's chat templates differ from the base's: 'default'"
    assert "'eos_token'" in tokens
    assert "'do_sample'" in generation
    full = check_folder(Folder("llama", beside=beside).write(tmp_path / "full"), base)
    assert found["warnings"] == full["warnings"]


def test_a_model_quantised_in_a_way_that_is_not_read_gets_the_command_that_dequantises_it(tmp_path):
    changes = {"config.json": {"quantization_config": {"quant_method": "hqq"}}}
    folder = Folder("llama", changes=changes).write(tmp_path / "model")
    (problem,) = check_folder(folder)["problems"]
    assert problem["key"] == "quantization_config"
    assert problem["command"].endswith(f"{folder} {folder}-dequantised")
