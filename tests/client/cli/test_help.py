"""What ``--help`` says: an example that can be run, every variable, and no command that is left out."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from backdoor_audit.cli.help import ENVIRONMENT, EXAMPLES
from backdoor_audit.cli.main import run, whole_command

ROOT = Path(__file__).resolve().parents[3]


def leaves(command, name=""):
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for each in below.values():
        yield from leaves(each, f"{name} {each.name}".strip())


COMMANDS = dict(leaves(whole_command()))


@pytest.fixture
def said(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")

    def call(*arguments):
        capsys.readouterr()
        code = run([*arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_every_command_has_an_example_and_every_example_a_command():
    assert COMMANDS.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_has_a_short_name_an_example_and_the_environment(said, name):
    code, out, err = said(*name.split(), "-h")
    assert (code, err) == (0, "")
    assert out == said(*name.split(), "--help")[1]
    assert f"  backdoor-audit {EXAMPLES[name][0]}\n" in out
    if name not in ("serve", "doctor", "verify"):
        assert "BACKDOOR_AUDIT_API_KEY" in out
        assert "--url" in out


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in EXAMPLES.items() for line in lines])
def test_examples_are_lines_that_the_command_takes(name, line):
    words = shlex.split(line)
    depth = len(name.split())
    assert words[:depth] == name.split()
    COMMANDS[name].make_context(name, words[depth:])


def test_options_are_in_groups_with_what_holds_without_them(said):
    out = said("submit", "-h")[1]
    headings = [line.rstrip(":") for line in out.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert headings == [
        "Models", "Suspected pair", "Prompts", "Method", "Run", "Result", "Filing", "Waiting", "Options", "Examples",
        "Environment",
    ]  # fmt: skip
    words = " ".join(out.split())
    for default in ("standard", "instructions", "auto", "diff_sae", r"{trigger}\n{prompt}", "0"):
        assert f"[default: {default}]" in words


def test_the_program_names_every_variable(said):
    code, out, _ = said("-h")
    assert code == 0
    for name, _ in ENVIRONMENT:
        assert name in out


def test_a_misspelt_command_is_guessed(said):
    code, _, err = said("modles")
    assert code == 4
    assert "Did you mean models?" in err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_is_given_its_completion(shell):
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}", "SHELL": f"/bin/{shell}"}
    code = "import sys; from backdoor_audit.cli.main import app; sys.argv[1:] = {}; app()"
    variable = "_BACKDOOR_AUDIT_COMPLETE"

    def call(arguments, **more):
        return subprocess.run(
            [sys.executable, "-c", code.format(arguments)], env=environment | more,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    words = "backdoor-audit submit --pre"
    asked = {variable: f"complete_{shell}", "COMP_WORDS": words, "COMP_CWORD": "2"}
    asked |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    assert "--preset" in call([], **asked).stdout
