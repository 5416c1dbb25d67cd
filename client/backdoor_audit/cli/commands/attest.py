"""``backdoor-audit attest``, ``verify`` and ``bom``: what can be handed on about an audit."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from backdoor_audit.attestations import key_files, keyless
from backdoor_audit.attestations.errors import AttestationError
from backdoor_audit.attestations.folders import FolderComparison, compare, read_statement
from backdoor_audit.cli.connect import connect
from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.options.shared import AsJson, AuditId, FailOnOption, UnlessAccepted
from backdoor_audit.cli.output.terminal import print_form, print_json, print_line, save, say
from backdoor_audit.cli.short_ids import audit_id as full_id
from backdoor_audit.client.errors import WrongUsage
from backdoor_audit.contract.attestation import AuditPredicate, Statement
from backdoor_audit.contract.decisions import CHOICE_TITLES
from backdoor_audit.contract.report.verdicts import fails
from backdoor_audit.contract.report.words import VERDICT_TITLES

Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write to this file.")]
TrustConfig = Annotated[
    Path | None,
    typer.Option(
        help="With sigstore: file that names the services of an instance of your own. Default: the public one."
    ),
]


def attest(
    context: typer.Context,
    audit_id: AuditId,
    key: Annotated[
        Path | None, typer.Option(help="Sign with this private key (PEM). Default: the service signs with its own.")
    ] = None,
    sigstore: Annotated[
        bool, typer.Option("--sigstore", help="Sign with this machine's identity, by sigstore, instead of a key.")
    ] = False,
    trust_config: TrustConfig = None,
    output: Output = None,
) -> int:
    """Save a signed statement that binds an audit's verdict to the files of the model that was audited."""
    if key is not None and sigstore:
        raise typer.BadParameter("cannot be combined with --key", param_hint="--sigstore")
    # Before the service is asked: a key that cannot sign is the commoner mistake.
    password = os.environ.get("BACKDOOR_AUDIT_KEY_PASSWORD")
    signer = None if key is None else key_files.EnvelopeSigner.load(key, password)
    with connect(context) as client:
        audit_id = full_id(client, audit_id)
        if signer is not None:
            signed = signer.sign(client.statement(audit_id))
        elif sigstore:
            signed = keyless.sign(client.statement(audit_id), os.environ.get("SIGSTORE_ID_TOKEN"), trust_config)
        else:
            signed = client.attestation(audit_id)
    return _give(signed, output)


def bom(context: typer.Context, audit_id: AuditId, output: Output = None) -> int:
    """Save a CycloneDX bill of materials: the audited model's files, its base, its chat template and the audit."""
    with connect(context) as client:
        content = client.bom(full_id(client, audit_id))
    return _give(content, output)


def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the model that is to be used.")],
    attestation: Annotated[Path, typer.Option(help="File that attest has saved.")],
    key: Annotated[Path | None, typer.Option(help="Public key (PEM) of whoever must have signed.")] = None,
    identity: Annotated[
        str | None, typer.Option(help="With sigstore: the identity that must have signed, instead of --key.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="With sigstore: who must have vouched for the identity.")] = None,
    trust_config: TrustConfig = None,
    fail_on: FailOnOption = None,
    unless_accepted: UnlessAccepted = False,
    as_json: AsJson = False,
) -> int:
    """Check, without a service, whether a folder holds what was audited, and with which verdict.

    Exits 2 if it does not, or if the attestation is not signed by the key or identity; otherwise as wait does.
    """
    if (key is None) == (identity is None):
        raise typer.BadParameter("or --identity must be given, and not both", param_hint="--key")
    try:
        content = attestation.read_bytes()
    except OSError as error:
        raise WrongUsage(f"{attestation} cannot be read: {error.strerror}") from error
    try:
        if key is not None:
            payload = key_files.verified_payload(content, key)
        else:
            payload = keyless.verified_payload(content, identity or "", issuer, trust_config)
        statement = read_statement(payload)
    except AttestationError as error:
        say(f"Not verified: {attestation}: {error}")
        if as_json:
            print_json({"verified": False, "problem": str(error), "exit_code": int(Exit.NOT_DONE)})
        return Exit.NOT_DONE
    comparison = compare(folder, statement)
    code = _exit(statement.predicate, comparison, fail_on, unless_accepted=unless_accepted)
    if as_json:
        print_json(_document(statement, comparison, code))
    _tell(folder, statement, comparison, say if as_json else print_line)
    return code


def _give(content: bytes, output: Path | None) -> int:
    if output is None:
        print_form(content, "json")
    else:
        save(output, content)
    return Exit.PASSED


def _exit(predicate: AuditPredicate, comparison: FolderComparison, fail_on: Any, *, unless_accepted: bool) -> Exit:
    if not comparison.same or predicate.verdict == "invalid":
        return Exit.NOT_DONE
    met = fails(predicate.verdict, fail_on or predicate.fail_on)
    return Exit.VERDICT_MET if met and not (unless_accepted and predicate.accepted) else Exit.PASSED


def _document(statement: Statement, comparison: FolderComparison, code: Exit) -> dict[str, Any]:
    return {
        "verified": comparison.same,
        "changed": comparison.changed,
        "missing": comparison.missing,
        "added": comparison.added,
        "not_covered": comparison.not_covered,
        "exit_code": int(code),
        "statement": statement.model_dump(mode="json", by_alias=True),
    }


def _tell(folder: Path, statement: Statement, comparison: FolderComparison, give: Callable[[str], None]) -> None:
    predicate = statement.predicate
    if not comparison.same:
        say(f"Not verified: {folder} is not what {predicate.audit_id} audited.")
        for names, words in (
            (comparison.changed, "has another content"),
            (comparison.missing, "is missing"),
            (comparison.added, "was not there"),
        ):
            say(*(f"  {name} {words}" for name in names))
        return
    give(f"{folder} is what {predicate.audit_id} audited: {VERDICT_TITLES[predicate.verdict]}")
    pair = predicate.trigger
    said = [f"Pair: {pair.get('triggered', '')!r} against {pair.get('clean', '')!r}"]
    if predicate.decisions:
        last = predicate.decisions[-1]
        said.append(f"{CHOICE_TITLES[last.decision]} by {last.decided_by}: {last.because}")
    if comparison.not_covered:
        said.append(f"Not covered, because no model is read from it: {', '.join(comparison.not_covered)}")
    say(*said)
