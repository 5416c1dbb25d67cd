import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from audit.dictionaries import (
    Crosscoder,
    CrosscoderConfig,
    DiffSAE,
    DiffSAEConfig,
    PaperCrosscoderConfig,
    PaperDiffSAEConfig,
    TokenBatch,
    TrainSettings,
    load,
    save,
    train,
)
from audit.dictionaries.export import CONFIG_NAME, WEIGHTS_NAME
from audit.errors import InvalidDictionary

CONFIGS = [
    DiffSAEConfig(d_model=32, n_latents=48, k=3),
    CrosscoderConfig(d_model=32, n_latents=48, k=3),
    PaperDiffSAEConfig(d_model=32, n_latents=48, k=3),
    PaperCrosscoderConfig(d_model=32, n_latents=48, k=3),
]


def diff_sae(seed: int = 0) -> DiffSAE:
    generator = torch.Generator().manual_seed(seed)
    return DiffSAE(
        W_enc=torch.randn(4, 6, generator=generator),
        b_enc=torch.randn(6, generator=generator),
        W_dec=F.normalize(torch.randn(6, 4, generator=generator), dim=1),
        b_dec=torch.randn(4, generator=generator),
        threshold=torch.rand(6, generator=generator),
        k=2,
        input_scale=0.125,
    )


def crosscoder(seed: int = 0) -> Crosscoder:
    generator = torch.Generator().manual_seed(seed)
    encoders = torch.randn(2, 4, 6, generator=generator).unbind(0)
    decoders = torch.randn(2, 6, 4, generator=generator).unbind(0)
    biases = torch.randn(2, 4, generator=generator).unbind(0)
    return Crosscoder(
        *encoders, torch.zeros(6), *decoders, *biases, torch.rand(6), k=2, scale_base=0.5, scale_tuned=0.25
    )


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_what_was_trained_comes_back(config, planted, tmp_path):
    dictionary, _ = train(config, planted.source, TrainSettings(token_visits=500))
    provenance = {"layer": 13, "seed": 0, "base_digest": "sha256:00", "note": None}
    save(dictionary, tmp_path / "new" / "folder", provenance=provenance)
    saved = load(tmp_path / "new" / "folder")
    assert saved.provenance == provenance
    assert type(saved.dictionary) is type(dictionary)
    for field in fields(dictionary):
        before, after = getattr(dictionary, field.name), getattr(saved.dictionary, field.name)
        assert torch.equal(before, after) if isinstance(before, torch.Tensor) else before == after, field.name


_LOAD_WITH_SAELENS = """
import sys, torch
from safetensors.torch import load_file, save_file
from sae_lens import SAE

work, names = sys.argv[1], sys.argv[2:]
delta = load_file(work + "/delta.safetensors")["delta"]
for name in names:
    sae = SAE.load_from_disk(work + "/" + name)
    assert sae.cfg.architecture() == "jumprelu", sae.cfg.architecture()
    with torch.no_grad():
        latents = sae.encode(delta)
        found = {"latents": latents, "decoded": sae.decode(latents), "forward": sae(delta)}
    save_file(found, work + "/" + name + ".safetensors")
"""


def test_saelens_gets_the_same_activations_and_reconstruction(planted, tmp_path, assert_close):
    """The real package, in a process of its own: it is slow to import and warns about things of its own."""
    dictionaries = {
        name: train(config, planted.source, TrainSettings(token_visits=20_000))[0]
        for name, config in (("default", CONFIGS[0]), ("paper", CONFIGS[2]))
    }
    for name, dictionary in dictionaries.items():
        save(dictionary, tmp_path / name, provenance={"layer": 13})
    batch = planted.source.batch(torch.arange(200))
    save_file({"delta": batch.delta}, tmp_path / "delta.safetensors")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "ignore", "-c", _LOAD_WITH_SAELENS, str(tmp_path), *dictionaries]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=240, check=False)
    assert done.returncode == 0, done.stderr

    for name, dictionary in dictionaries.items():
        theirs = load_file(tmp_path / f"{name}.safetensors")
        latents = dictionary.encode(batch)
        assert (latents > 0).any()
        assert_close(theirs["latents"], latents, atol=1e-4)
        assert_close(theirs["decoded"], dictionary.decode(latents), atol=1e-4)
        assert_close(theirs["forward"], dictionary.decode(latents), atol=1e-4)


def rewrite(folder: Path, change) -> None:
    config = json.loads((folder / CONFIG_NAME).read_text())
    change(config)
    (folder / CONFIG_NAME).write_text(json.dumps(config))


@pytest.mark.parametrize("make", [diff_sae, crosscoder])
@pytest.mark.parametrize(
    "change",
    [
        lambda config: config.update(trust_remote_code=True),
        lambda config: config.pop("d_in" if "d_in" in config else "d_model"),
        lambda config: config.update({"d_sae" if "d_sae" in config else "n_latents": 7}),
        lambda config: config.update({"architecture" if "d_sae" in config else "format": "gated"}),
        lambda config: config.get("metadata", {}).get("backdoor_audit", config).update(k=0),
        lambda config: config.get("metadata", {}).get("backdoor_audit", config).update(k="2"),
        lambda config: config.get("metadata", {}).get("backdoor_audit", config).update(recipe="other"),
        lambda config: config.get("metadata", {}).get("backdoor_audit", config).update(extra=1),
        lambda config: config.get("metadata", {}).get("backdoor_audit", config).update(provenance={"a": {"b": 1}}),
        lambda config: config.get("metadata", {}).get("backdoor_audit", config).update(provenance=None),
    ],
)
def test_configs_that_we_would_not_have_written_are_refused(make, change, tmp_path):
    save(make(), tmp_path)
    rewrite(tmp_path, change)
    with pytest.raises(InvalidDictionary):
        load(tmp_path)


@pytest.mark.parametrize("make", [diff_sae, crosscoder])
@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update(extra=torch.zeros(1)),
        lambda tensors: tensors.pop("b_enc"),
        lambda tensors: tensors.update(b_enc=torch.zeros(5)),
        lambda tensors: tensors.update(b_enc=torch.full((6,), float("nan"))),
        lambda tensors: tensors.update(b_enc=torch.zeros(6, dtype=torch.float16)),
        lambda tensors: tensors.update(threshold=torch.full((6,), -1.0)),
    ],
)
def test_weights_that_we_would_not_have_written_are_refused(make, change, tmp_path):
    save(make(), tmp_path)
    tensors = load_file(tmp_path / WEIGHTS_NAME)
    change(tensors)
    save_file(tensors, tmp_path / WEIGHTS_NAME)
    with pytest.raises(InvalidDictionary):
        load(tmp_path)


def test_damaged_and_missing_files_are_refused(tmp_path):
    with pytest.raises(InvalidDictionary):
        load(tmp_path)
    save(diff_sae(), tmp_path)
    whole = (tmp_path / WEIGHTS_NAME).read_bytes()
    (tmp_path / WEIGHTS_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidDictionary):
        load(tmp_path)
    (tmp_path / WEIGHTS_NAME).write_bytes(whole)
    for text in ("{", "[]", '"text"', '{"metadata": 3}'):
        (tmp_path / CONFIG_NAME).write_text(text)
        with pytest.raises(InvalidDictionary):
            load(tmp_path)


def test_a_loaded_dictionary_encodes_as_before(tmp_path):
    generator = torch.Generator().manual_seed(1)
    batch = TokenBatch(*torch.randn(2, 20, 4, generator=generator).unbind(0))
    for dictionary in (diff_sae(), crosscoder()):
        save(dictionary, tmp_path / dictionary.architecture)
        again = load(tmp_path / dictionary.architecture).dictionary
        assert torch.equal(again.encode(batch), dictionary.encode(batch))
        assert torch.equal(again.decode(again.encode(batch)), dictionary.decode(dictionary.encode(batch)))
