"""The error tree is drawn whole."""

import subprocess
import sys

from jobs import errors


def test_every_error_is_in_the_drawing_and_below_the_root():
    classes = {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == errors.__name__
    }
    for name, error in classes.items():
        assert f" {name} " in errors.__doc__ or f"\n{name} " in errors.__doc__, name
        assert issubclass(error, errors.LedgerError)


def test_the_ledger_needs_neither_torch_nor_a_broker_nor_http():
    code = (
        "import sys, jobs.ledger\n"
        "print([name for name in ('torch', 'celery', 'fastapi', 'transformers', 'redis') if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
