import subprocess
import sys

import pytest


@pytest.mark.parametrize("module", ["service", "service.app", "service.__main__", "service.openapi_document.committed"])
def test_importing_the_service_imports_no_torch_and_no_native_parser_of_checkpoints(module):
    code = (
        f"import sys, {module}\n"
        "heavy = {'torch', 'transformers', 'peft', 'sae_lens', 'scipy', 'tokenizers', 'safetensors', 'numpy'}\n"
        "heavy &= set(sys.modules)\n"
        "sys.exit(' '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
