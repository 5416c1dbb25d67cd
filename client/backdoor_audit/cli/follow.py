"""Follows an audit to its end and prints the result."""

from collections.abc import Mapping
from types import MappingProxyType

from backdoor_audit.cli.exit_codes import Exit
from backdoor_audit.cli.outcomes import known_fail_on, outcome_of, what_a_pass_leaves_open
from backdoor_audit.cli.output.listing import render_audit
from backdoor_audit.cli.output.progress import Watch
from backdoor_audit.cli.output.render import render_report
from backdoor_audit.cli.output.terminal import err, out, print_json, say
from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.errors import Conflict, UnexpectedAnswer
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.report.verdicts import FailOn


def follow(
    client: AuditClient,
    audit_id: str,
    fail_on: FailOn | None,
    timeout_s: float | None,
    as_json: bool,
    pushed: Mapping[str, str] = MappingProxyType({}),
    *,
    unless_accepted: bool = False,
) -> int:
    """Wait for an audit to end and return the exit code; Ctrl-C stops only the waiting.

    ``pushed`` holds the digests of models that this command uploaded, by reference; see :func:`conclude`.
    """
    try:
        with Watch(err()) as watch:
            audit = client.wait(audit_id, timeout_s=timeout_s, on_update=watch)
        return conclude(client, audit, fail_on, as_json, whole=True, pushed=pushed, unless_accepted=unless_accepted)
    except KeyboardInterrupt:
        say(
            f"Interrupted. The audit {audit_id} continues.",
            f"  to resume waiting:  backdoor-audit wait {audit_id}",
            f"  to cancel it:       backdoor-audit cancel {audit_id}",
        )
        return Exit.INTERRUPTED


def conclude(
    client: AuditClient,
    audit: Audit,
    fail_on: FailOn | None,
    as_json: bool,
    *,
    whole: bool,
    pushed: Mapping[str, str] = MappingProxyType({}),
    unless_accepted: bool = False,
) -> int:
    """Print the result of an ended audit and return the exit code.

    Args:
        client: the service.
        audit: in a terminal state.
        fail_on: None for the audit's own.
        as_json: print one JSON document.
        whole: print the whole report, not only the audit's state.
        pushed: digests that the audit must have used, by reference. Meanwhile, the name may have been given to other
            weights.
        unless_accepted: pass if the latest decision about the audit is to accept it.
    """
    report = None
    if audit.status == "succeeded":
        try:
            report = client.report(audit.id)
        except Conflict as error:
            raise UnexpectedAnswer("the audit succeeded, but has no report") from error
    outcome = outcome_of(audit, report, fail_on or known_fail_on(audit.spec.get("fail_on")), pushed, unless_accepted)
    notes = what_a_pass_leaves_open(report) if report is not None and outcome.code is Exit.PASSED else []
    if as_json:
        print_json(
            {
                "audit": audit.model_dump(mode="json"),
                "report": None if report is None else report.model_dump(mode="json"),
                "exit_code": int(outcome.code),
                "notes": notes,
            }
        )
    else:
        out().print(render_report(report) if whole and report is not None else render_audit(audit))
    hint = audit.failure.hint if audit.failure is not None else ""
    say(outcome.sentence, *filter(None, (hint,)), *notes)
    return outcome.code
