"""What picked features recover: null where it could not be measured, which is not zero."""

import pytest
import torch

from audit.explain.features import Selection, median_seed
from audit.explain.stage import _localisation
from audit.explain.training import Trained
from backdoor_audit.contract.report.audit_report import SCHEMA_VERSION, Localisation


class Rows:
    """A dictionary that is nothing but its decoder."""

    W_dec_tuned = torch.eye(4)


def picked(seed, recovered):
    return Selection(Trained(Rows(), 3, "diff_sae", seed, 4, None), (seed,), torch.zeros(4), (recovered,), (recovered,))


def test_what_was_measured_is_told_by_seed_and_of_the_median():
    found = _localisation([picked(0, 0.9), picked(1, 0.0), picked(2, 0.4)], 0.8)
    assert (found.recovered, found.share, found.localised) == (0.4, 0.5, True)
    assert found.recovered_by_seed == (0.9, 0.0, 0.4)
    low = _localisation([picked(0, 0.0)], 0.8)
    assert (low.recovered, low.share, low.localised) == (0.0, 0.0, False)
    assert "recover 0.00" in low.note


@pytest.mark.parametrize("whole", [None, 0.8])
def test_what_was_not_measured_is_null_and_not_zero(whole):
    seeds = [picked(0, None), picked(1, None), picked(2, None)]
    assert median_seed(seeds) is seeds[1]
    found = _localisation(seeds, whole)
    assert (found.recovered, found.share, found.localised, found.note) == (None, None, None, "")
    assert found.recovered_by_seed == (None, None, None)
    assert Selection(seeds[0].trained, (), torch.zeros(4), (), ()).recovered is None


def test_a_report_of_an_earlier_minor_version_is_read():
    assert SCHEMA_VERSION == "1.5"
    rows = {"features": 1, "recovered": 0.0, "directions_recovered": 0.5, "share": 0.0, "localised": False}
    assert Localisation.model_validate(rows | {"recovered_by_seed": [0.0, 0.1]}).recovered_by_seed == (0.0, 0.1)
