"""The client installed alone: its wheel in an empty environment, as somebody gets it who only asks."""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = {"audit", "common", "jobs", "local", "models_store", "service", "storage", "worker", "client"}
HEAVY = {"torch", "transformers", "celery", "sqlalchemy", "numpy"}
MAX_SITE_PACKAGES_MB = 60


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The folder of an environment that holds the client's wheel and what that asks for, and no pip."""
    folder = tmp_path_factory.mktemp("alone")
    # Without PYTHONPATH, or pip takes the checkout for an installation; from a copy, because setuptools builds in it.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    copy = shutil.copytree(ROOT / "client", folder / "client", ignore=shutil.ignore_patterns("build", "*.egg-info"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder / "wheels", copy]
    subprocess.run(build, env=clean, check=True)
    wheel = next((folder / "wheels").glob("backdoor_audit-*.whl"))
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    install = [*pip, "--python", python, "install", "-c", ROOT / "constraints.txt", wheel]
    subprocess.run(install, env=clean, check=True)
    return folder / "venv"


def run(environment, *command):
    """Run a command of the environment, which must not find this checkout."""
    return subprocess.run(
        [environment / "bin" / command[0], *command[1:]],
        cwd=environment, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_nothing_of_the_server_is_installed_and_it_stays_small(environment):
    site = next(environment.glob("lib/python*/site-packages"))
    names = {path.name.split(".")[0].lower() for path in site.iterdir()}
    assert "backdoor_audit" in names
    assert not names & (SERVER | HEAVY)
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    assert size < MAX_SITE_PACKAGES_MB * 1e6


def test_both_clients_are_imported_from_the_package(environment):
    code = "from backdoor_audit import AsyncAuditClient, AuditClient; AuditClient('http://127.0.0.1:1').close()"
    done = run(environment, "python", "-W", "error", "-c", code)
    assert done.returncode == 0, done.stderr


def test_the_command_works_and_its_help_imports_neither_pydantic_nor_httpx(environment):
    assert run(environment, "backdoor-audit", "--help").returncode == 0
    assert run(environment, "backdoor-audit", "submit", "--help").returncode == 0
    assert run(environment, "backdoor-audit", "--url", "http://127.0.0.1:1", "models", "list").returncode == 3
    code = (
        "import sys; from backdoor_audit.cli.main import run; run(['--help']); "
        "sys.exit(bool({'pydantic', 'httpx', 'rich'} & set(sys.modules)))"
    )
    assert run(environment, "python", "-c", code).returncode == 0


@pytest.mark.parametrize("command", [("serve",), ("doctor", "--json"), ("serve", "--port", "0")])
def test_a_command_of_the_server_says_what_to_install(environment, command):
    done = run(environment, "backdoor-audit", *command)
    assert done.returncode == 4
    assert "pip install 'backdoor-audit-server[local]'" in done.stderr
