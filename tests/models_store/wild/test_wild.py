"""What training tools write is taken as they write it, by every way in; what only looks like it stays refused."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from backdoor_audit.client.checkpoint_files import files_of
from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.checkpoint_files import INDEX, QUANTISED_SOURCES
from models_store.checkpoint import Checkpoint
from models_store.errors import StoreError
from models_store.store import ModelsStore
from models_store.verification.verify import verify_view
from models_store.view import view_notes
from tests.models_store.wild.cases import REFUSED, TAKEN, Case
from tests.models_store.wild.folders import Folder, llama_shapes, write_weights

COMMIT = "0" * 40


@pytest.fixture
def store(tmp_path: Path) -> ModelsStore:
    (tmp_path / "models").mkdir()
    return ModelsStore(
        models_root=tmp_path / "models",
        store_dir=tmp_path / "store",
        hub_dir=tmp_path / "hub",
        allowed_organisations=frozenset({"org"}),
    )


def snapshot(store: ModelsStore, folder: Path) -> Checkpoint:
    """The folder as a snapshot of a hub's cache, whose files are links to blobs beside it."""
    place = folder.parents[1] / "hub" / "models--org--tuned"
    found, blobs = place / "snapshots" / COMMIT, place / "blobs"
    blobs.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.rglob("*"))):
        target = found / path.relative_to(folder)
        if path.is_dir() and not path.is_symlink():
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and not path.is_symlink():
            shutil.copyfile(path, blobs / str(number))
            target.symlink_to(os.path.relpath(blobs / str(number), target.parent))
        elif path.is_symlink():
            target.symlink_to(path.readlink())
        else:
            os.mkfifo(target)
    return store.resolve(f"hf:org/tuned@{COMMIT}")


def push(store: ModelsStore, folder: Path) -> Checkpoint:
    for file in files_of(folder, lambda line: None):
        with store.uploads.receiving("pushed", file.name, offset=0, total=file.size) as receiving:
            receiving.write(file.path.read_bytes())
            receiving.finish(file.sha256)
    return store.commit("pushed")


@pytest.mark.parametrize("case", TAKEN, ids=lambda case: case.name)
def test_what_people_have_is_taken_at_first_try(store: ModelsStore, tmp_path: Path, case: Case) -> None:
    folder = case.folder.write(tmp_path / "models" / "tuned")
    case.base.write(tmp_path / "models" / "base")
    base = store.resolve("local:base")
    local, pushed = store.resolve("local:tuned"), push(store, folder)
    assert local.digest == pushed.digest == snapshot(store, folder).digest
    view = store.view(local, tmp_path / "view")
    notes = [*view_notes("tuned", view)]
    if case.way == "pair" or (local.kind == "lora" and case.way == "alone"):
        notes += store.check_pair(base, local)
    assert case.says in "\n".join(notes)
    names = {path.relative_to(view.folder).as_posix() for path in view.folder.rglob("*") if path.is_file()}
    assert names.isdisjoint(view.ignored)
    assert names | {name for name in view.ignored if not name.endswith("/")} >= {
        path.name for path in folder.iterdir() if path.is_file()
    }
    again = verify_view(view.folder, view.root)
    # A quantised model stays one: its plan is no file of a checkpoint, and is made again.
    plan = {QUANTISED_SOURCES} & names
    assert (again.kind, {*again.ignored}) == (view.kind, plan)
    assert all("dequantised" in warning for warning in again.warnings)
    assert bool(again.warnings) == bool(plan)
    assert again.documents.keys() - {"adapter_config.json", INDEX, *plan} <= ({"config.json"} if plan else set())


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_only_looks_like_it_is_refused(store: ModelsStore, tmp_path: Path, case: Case) -> None:
    folder = case.folder.write(tmp_path / "models" / "tuned")
    case.base.write(tmp_path / "models" / "base")
    with pytest.raises(StoreError) as caught:
        store.check_pair(store.resolve("local:base"), store.resolve("local:tuned"))
    assert re.search(case.says, caught.value.message)
    assert caught.value.hint
    if case.way != "pair":
        with pytest.raises(StoreError) as as_snapshot:
            store.check_pair(store.resolve("local:base"), snapshot(store, folder))
        assert as_snapshot.value.code == caught.value.code
    if case.way == "alone":
        with pytest.raises((StoreError, WrongUsage)):
            push(store, folder)


def test_shards_are_told_apart(store: ModelsStore, tmp_path: Path) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    shapes = llama_shapes()
    placed = {name: first if "layers.0" in name else second for name in shapes}

    def refusal(name: str, index: dict[str, str], held: dict[str, list[str]]) -> str:
        folder = Folder(
            "llama", without=("model.safetensors",), beside={"model.safetensors.index.json": {"weight_map": index}}
        )
        folder.write(tmp_path / "models" / name)
        for shard, names in held.items():
            write_weights(tmp_path / "models" / name / shard, {key: shapes[key] for key in names})
        try:
            store.resolve(f"local:{name}")
        except StoreError as error:
            return error.message
        return ""

    whole = {shard: [name for name, where in placed.items() if where == shard] for shard in (first, second)}
    assert refusal("whole", placed, whole) == ""
    assert refusal("more", placed, whole | {"model-00003-of-00003.safetensors": ["lm_head.weight"]}) == ""
    assert "is not there, and" in refusal("missing", placed, {first: whole[first]})
    assert "holds as well" in refusal(
        "twice", placed, {first: [*whole[first], "lm_head.weight"], second: whole[second]}
    )
    assert "lacks 'lm_head.weight'" in refusal(
        "lacking", placed, {**whole, second: [n for n in whole[second] if n != "lm_head.weight"]}
    )
    assert "does not place there" in refusal(
        "unnamed", {k: v for k, v in placed.items() if k != "lm_head.weight"}, whole
    )


def test_a_sharded_checkpoint_of_full_size_is_checked_from_its_headers(tmp_path: Path) -> None:
    """The shapes of a 7B Llama in two shards of 7 GB, as holes."""
    hidden, inner, blocks, vocab = 4096, 11008, 32, 32000
    sizes = {"self_attn": ("q_proj", "k_proj", "v_proj", "o_proj"), "mlp": ("gate_proj", "up_proj", "down_proj")}
    shapes: dict[str, tuple[int, ...]] = {}
    for block in range(blocks):
        prefix = f"model.layers.{block}"
        shapes |= {f"{prefix}.self_attn.{name}.weight": (hidden, hidden) for name in sizes["self_attn"]}
        shapes |= {f"{prefix}.mlp.{name}.weight": (inner, hidden) for name in ("gate_proj", "up_proj")}
        shapes[f"{prefix}.mlp.down_proj.weight"] = (hidden, inner)
        shapes |= {f"{prefix}.{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
    shapes |= dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (vocab, hidden))
    shapes["model.norm.weight"] = (hidden,)
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    placed = {name: shards[number % 2] for number, name in enumerate(shapes)}
    config = {
        "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": blocks, "vocab_size": vocab,
        "num_attention_heads": 32, "num_key_value_heads": 32,
    }  # fmt: skip
    index = {"weight_map": placed, "metadata": {"total_size": 1}}
    folder = Folder(
        "llama", {"config.json": config}, {}, {"model.safetensors.index.json": index}, ("model.safetensors",)
    )
    folder.write(tmp_path / "7b")
    for shard in shards:
        write_weights(tmp_path / "7b" / shard, {name: shapes[name] for name, where in placed.items() if where == shard})
    code = (
        "import pathlib, sys, time; from models_store.verification.verify import verify_checkpoint;"
        "start = time.process_time(); verified = verify_checkpoint(pathlib.Path(sys.argv[1]));"
        # Not ru_maxrss, which starts at what the test's own process had when it forked.
        "status = pathlib.Path('/proc/self/status').read_text();"
        "print(verified.size_bytes, time.process_time() - start, status.split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "7b")],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        check=True,
    )
    size, seconds, kilobytes = map(float, done.stdout.split())
    assert size > 13e9
    assert seconds <= 5
    assert kilobytes <= 300_000
