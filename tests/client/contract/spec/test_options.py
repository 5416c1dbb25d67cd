"""The list of options agrees with the spec that it describes."""

import pytest

from backdoor_audit.contract.spec.audit_spec import AuditSpec
from backdoor_audit.contract.spec.options import SPEC_OPTIONS

NOT_ONE_BY_ONE = {
    "keep_activations": "set in a whole spec",
}


def test_every_field_of_the_spec_has_an_option_or_a_reason_for_none():
    fields = {option.field.partition(".")[0] for option in SPEC_OPTIONS}
    assert fields | NOT_ONE_BY_ONE.keys() == AuditSpec.model_fields.keys()
    assert not fields & NOT_ONE_BY_ONE.keys()


@pytest.mark.parametrize("option", SPEC_OPTIONS, ids=lambda option: option.name)
def test_each_says_what_it_means_and_what_it_takes(option):
    assert option.help.endswith(".")
    assert bool(option.choices) == (option.kind in ("choice", "names", "carriers"))


def test_words_come_from_the_spec():
    by_name = {option.name: option for option in SPEC_OPTIONS}
    assert by_name["preset"].choices == ("quick", "standard", "thorough")
    assert by_name["architectures"].choices == ("diff_sae", "crosscoder")
    assert by_name["carriers"].choices == ("python-sql", "instructions")
    assert "hf:ORG/REPO@COMMIT" in by_name["base"].help
    assert by_name["deadline"].flag == "--deadline"
