from types import SimpleNamespace

from audit.explain.firing import FeatureFiring, PromptFiring
from audit.prompts.rendering import Tokens
from tests.audit.small_models import small_runner


def shown(*prompts):
    rows = [
        PromptFiring(
            group, "decoy" if "decoys" in group else group, "s", carrier, Tokens((5, 6, 7), 3, 1), (2,), (value,)
        )
        for group, carrier, value in prompts
    ]
    return FeatureFiring(SimpleNamespace(pair=small_runner().pair), rows, 0, threshold=1.0)


def test_firing_is_counted_by_condition_against_the_threshold():
    found = shown(
        ("triggered", 0, 3.0), ("triggered", 1, 1.0), ("clean", 0, 0.0), ("firing_decoys", 0, 4.0), ("clean", 1, 0.5)
    ).by_condition()
    assert [(row.condition, row.prompts, row.share) for row in found] == [
        ("triggered", 2, 0.5), ("clean", 2, 0.0), ("firing_decoys", 1, 1.0)
    ]  # fmt: skip
    assert found[0].strongest.fires
    assert found[0].strongest.carrier == 0
    assert not found[1].strongest.fires
    assert shown(("clean", 0, 0.0)).by_condition()[0].strongest is None


def test_the_strongest_prompts_are_of_different_carriers():
    found = shown(*[("triggered", n % 8, float(n)) for n in range(16)], ("firing_decoys", 7, 99.0)).strongest()
    assert [(token.carrier, token.activation) for token in found] == [
        (7, 99.0), (6, 14.0), (5, 13.0), (4, 12.0), (3, 11.0), (2, 10.0)
    ]  # fmt: skip
