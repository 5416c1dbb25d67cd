import numpy as np
import pytest

from models_store.errors import ModelRejected, ModelsIncompatible
from models_store.verification.verify import verify_checkpoint
from tests.checkpoints import check_folders


def q(layer=0, hidden=16, rank=2, out=None):
    module = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
    return {
        f"{module}.lora_A.weight": np.ones((rank, hidden), np.float32),
        f"{module}.lora_B.weight": np.ones((out or hidden, rank), np.float32),
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("auto_mapping", {"base_model_class": "Evil", "parent_library": "evil"}),
        ("megatron_config", {"a": 1}),
        ("megatron_core", "os"),
        ("peft_type", "IA3"),
        ("peft_type", None),
        ("task_type", "SEQ_CLS"),
        ("task_type", None),
        ("modules_to_save", ["lm_head"]),
        ("bias", "all"),
        ("lora_bias", True),
        ("use_dora", True),
        ("use_dora", 1),
        ("use_qalora", True),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("loftq_config", {"loftq_bits": 4}),
        ("trainable_token_indices", [1]),
        ("target_parameters", ["x"]),
        ("layer_replication", [[0, 4]]),
        ("arrow_config", {"a": 1}),
        ("use_bdlora", {"a": 1}),
        ("never_heard_of_it", 1),
        ("target_modules", "all-linear"),
        ("target_modules", ".*q_proj"),
        ("target_modules", [".*"]),
        ("target_modules", []),
        ("target_modules", None),
        ("target_modules", [1]),
        ("target_modules", ["(a+)+$"]),
        ("r", 0),
        ("r", 10**9),
        ("r", True),
        ("r", "8"),
        ("lora_alpha", -1),
        ("lora_alpha", None),
        ("lora_dropout", 2),
        ("use_rslora", "yes"),
        ("rank_pattern", {"(a+)+$": 4}),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", [1]),
        ("alpha_pattern", {"q_proj": "x"}),
        ("layers_to_transform", ["0"]),
        ("layers_pattern", ".*"),
        ("exclude_modules", ".*"),
        ("base_model_name_or_path", {"a": 1}),
    ],
)
def test_what_is_more_than_plain_lora_is_refused_by_key(make_adapter, key, value):
    with pytest.raises(ModelRejected, match=f"adapter_config.json: '{key}'") as caught:
        verify_checkpoint(make_adapter(**{key: value}))
    assert caught.value.hint


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ({**q(rank=3)}, "says rank 2"),
        ({"base_model.model.lm_head.weight": np.ones((2, 2), np.float32)}, "not a LoRA factor"),
        ({"base_model.model.model.embed_tokens.lora_embedding_A": np.ones((2, 2), np.float32)}, "not a LoRA factor"),
        ({**q(), "model.layers.0.self_attn.q_proj.lora_A.weight": np.ones((2, 2), np.float32)}, "not a LoRA factor"),
        (dict(list(q().items())[:1]), "lora_B of .* is not there"),
        (dict(list(q().items())[1:]), "lora_A of .* is not there"),
        ({name: array.astype(np.int8) for name, array in q().items()}, "no matrix of floats"),
        ({name: array.ravel() for name, array in q().items()}, "no matrix of floats"),
        (
            {
                "base_model.model.x.k_proj.lora_A.weight": np.ones((2, 2), np.float32),
                "base_model.model.x.k_proj.lora_B.weight": np.ones((2, 2), np.float32),
            },
            "not a LoRA factor of a targeted module",
        ),
    ],
)
def test_a_header_that_differs_from_the_config_is_refused(make_adapter, weights, reason):
    with pytest.raises(ModelRejected, match=f"adapter_model.safetensors: .*{reason}"):
        verify_checkpoint(make_adapter(weights=weights, target_modules=["q_proj"]))


def test_a_target_without_weights_is_refused(make_adapter):
    with pytest.raises(ModelRejected, match="nothing for the target module 'o_proj'"):
        verify_checkpoint(make_adapter(weights=q(), target_modules=["q_proj", "o_proj"]))


def test_ranks_of_their_own_are_taken(make_adapter):
    weights = {**q(0, rank=2), **q(1, rank=5)}
    folder = make_adapter(weights=weights, target_modules=["q_proj"], rank_pattern={"layers.1.self_attn.q_proj": 5})
    assert verify_checkpoint(folder).adapter.rank == 2


@pytest.mark.parametrize(
    ("weights", "changes", "reason"),
    [
        ({**q(0), **q(1), **q(2)}, {}, r"adapts 'model\.layers\.2\.self_attn\.q_proj', which the base does not have"),
        ({**q(0, hidden=32), **q(1, hidden=32)}, {}, "maps 32 to 32, in the base 16 to 16"),
        ({**q(0, out=8), **q(1)}, {}, "maps 16 to 8, in the base 16 to 16"),
        (q(0), {}, r"has nothing for 'model\.layers\.1\.self_attn\.q_proj'"),
        (q(0), {"layers_to_transform": [1]}, r"has nothing for 'model\.layers\.1"),
    ],
)
def test_an_adapter_for_another_base_is_incompatible(make_model, make_adapter, weights, changes, reason):
    adapter = make_adapter(weights=weights, target_modules=["q_proj"], **changes)
    with pytest.raises(ModelsIncompatible, match=reason) as caught:
        check_folders(make_model(), adapter)
    assert caught.value.code == "models_incompatible"
    assert caught.value.hint


def test_layers_can_be_chosen_and_modules_excluded(make_model, make_adapter):
    base = make_model()
    check_folders(base, make_adapter("one", weights=q(0), target_modules=["q_proj"], layers_to_transform=[0]))
    excluded = {"exclude_modules": ["layers.0.self_attn.q_proj"]}
    check_folders(base, make_adapter("two", weights=q(1), target_modules=["q_proj"], **excluded))
