"""Whether a fine-tuned model fits its base."""

import json

import pytest
import torch

from audit.errors import IdenticalModels, ModelsIncompatible
from audit.models.compatibility import check_weights_differ, compare_configs, share_vocabulary
from tests.audit.small_models import VOCABULARY, small_model, write_checkpoint


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_checkpoint(tmp_path_factory.mktemp("base") / "model", "llama")


@pytest.fixture
def with_config(base, tmp_path):
    """The base's configuration with changes, in a folder of its own."""

    def write(**changes):
        config = json.loads((base / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | changes))
        return tmp_path

    return write


@pytest.mark.parametrize(
    "changes", [{"vocab_size": 999}, {"use_cache": False}, {"attention_dropout": 0.1}, {"eos_token_id": 5}]
)
def test_what_changes_no_number_is_not_told(base, with_config, changes):
    assert compare_configs(base, with_config(**changes)) == ()


@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "intermediate_size"])
def test_other_sizes_are_refused_by_name(base, with_config, key):
    size = json.loads((base / "config.json").read_text())[key]
    with pytest.raises(ModelsIncompatible, match=rf"'{key}' differs: {size} in the base, {2 * size} in the fine-tuned"):
        compare_configs(base, with_config(**{key: 2 * size}))


def test_an_epsilon_and_a_rotary_base_that_differ_are_told_with_both_values(base, with_config):
    notes = compare_configs(
        base, with_config(rms_norm_eps=0.5, rope_parameters={"rope_type": "default", "rope_theta": 7.0})
    )
    assert [note.split(":")[0] for note in notes] == ["rms_norm_eps", "rope_parameters.rope_theta"]
    assert notes[0].endswith("0.5 in the fine-tuned model")
    assert notes[1].endswith("in the base, 7.0 in the fine-tuned model")


@pytest.mark.parametrize(
    ("kind", "notes"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, ("128 in the base, 256 in the fine-tuned model",)),
        ({"rope_type": "default"}, ()),
    ],
)
def test_how_far_positions_reach_is_told_where_angles_depend_on_it(base, with_config, tmp_path, kind, notes):
    rope = {"rope_parameters": kind | {"rope_theta": 10_000.0}}
    longer = tmp_path / "longer"
    longer.mkdir()
    config = json.loads((base / "config.json").read_text()) | rope | {"max_position_embeddings": 256}
    (longer / "config.json").write_text(json.dumps(config))
    told = compare_configs(with_config(**rope), longer)
    assert told == tuple(f"max_position_embeddings: {note}" for note in notes)


@pytest.mark.parametrize("tied", [False, True], ids=["apart", "tied"])
@pytest.mark.parametrize("swapped", [False, True])
def test_both_are_cut_to_the_rows_that_both_have(tied, swapped, assert_close):
    small = small_model("llama", 0, tie_word_embeddings=tied)
    large = small_model("llama", 1, tie_word_embeddings=tied, vocab_size=VOCABULARY + 5)
    ids = torch.tensor([[5, 6, VOCABULARY - 1]])
    with torch.no_grad():
        expected = large(input_ids=ids).logits[..., :VOCABULARY]
        pair = (large, small) if swapped else (small, large)
        assert share_vocabulary(*pair, highest=VOCABULARY - 1) == VOCABULARY
        assert_close(large(input_ids=ids).logits, expected)
    assert large.config.vocab_size == VOCABULARY
    assert (large.get_output_embeddings().weight is large.get_input_embeddings().weight) is tied


def test_equal_vocabularies_are_left_alone():
    assert share_vocabulary(small_model("llama", 0), small_model("llama", 1), highest=VOCABULARY - 1) is None


def test_a_token_of_the_base_without_a_row_is_refused():
    small, large = small_model("llama", 0), small_model("llama", 1, vocab_size=VOCABULARY + 5)
    with pytest.raises(ModelsIncompatible, match=f"has a token {VOCABULARY}$"):
        share_vocabulary(large, small, highest=VOCABULARY)


def test_one_changed_weight_is_enough_and_none_is_too_little():
    base, tuned = small_model("llama"), small_model("llama")
    with pytest.raises(IdenticalModels):
        check_weights_differ(base, tuned)
    check_weights_differ(base, tuned, may_be_equal=True)
    with torch.no_grad():
        tuned.model.norm.weight[3] += 1e-3
    check_weights_differ(base, tuned)


def test_weights_without_a_counterpart_are_named():
    with pytest.raises(ModelsIncompatible, match=r"'lm_head\.weight' have no counterpart"):
        check_weights_differ(small_model("llama"), small_model("llama", vocab_size=VOCABULARY + 1))
