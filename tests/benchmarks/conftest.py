import pytest

from audit.models.tokenizers import load_tokenizer
from backdoor_audit.contract.spec.audit_spec import TriggerSpec
from benchmarks.harness.setup import rendered
from tests.toy import CLEAN, TRIGGERED, toy_carriers


@pytest.fixture
def toy_sequences(toy_base):
    """Prompts that begin alike: the toy tokenizer has no chat template that would see to it."""
    trigger = TriggerSpec(triggered=TRIGGERED, clean=CLEAN, template="Write the function.\n{trigger}\n{prompt}")
    return rendered(load_tokenizer(toy_base), toy_carriers().prompts[:6], trigger)
