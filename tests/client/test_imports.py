import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOREIGN = ("torch", "transformers", "sqlalchemy", "celery", "jobs", "service", "models_store", "storage")


# Of the worker, the supervisor has the walls of the sandbox, which need the standard library and structlog alone.
def test_the_command_and_the_supervisor_import_nothing_behind_http():
    code = (
        "import sys, backdoor_audit.cli.main, local.serve; "
        f"found = [name for name in {FOREIGN!r} if name in sys.modules]; "
        "sys.exit(repr(found) if found else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
