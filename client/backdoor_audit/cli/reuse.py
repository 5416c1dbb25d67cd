"""``submit --once``: reuse an audit of the same spec and checkpoints.

An earlier audit is reused if it succeeded with the same spec, on a base and a fine-tuned model of the same content, by
the version of the method that the service has now. Content is compared by digest. The service knows the digest of every
checkpoint that was used before; one without a digest cannot have been audited, so a new audit is filed. A library is
identified by name alone, with whatever models it had at the time.
"""

from collections.abc import Mapping

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.spec.audit_spec import AuditSpec


def submit_once(client: AuditClient, spec: AuditSpec, pushed: Mapping[str, str]) -> Audit:
    """The newest audit that can be reused, or a new one; ``pushed`` as in :func:`earlier_answer`."""
    earlier = earlier_answer(client, spec, pushed)
    return client.submit(spec) if earlier is None else earlier


def earlier_answer(client: AuditClient, spec: AuditSpec, pushed: Mapping[str, str]) -> Audit | None:
    """The newest audit that can be reused; None where there is none.

    ``pushed`` holds the digest of each model that this command sent, by reference: computed here, so it wins over what
    the service lists.
    """
    digests = {model.reference: model.digest for model in client.models()}
    digests.update(pushed)
    base, tuned = digests.get(spec.base_model), digests.get(spec.fine_tuned)
    if base is None or tuned is None:
        return None
    method = client.alive().method_version
    for audit in client.audits(status="succeeded", tuned_digest=tuned, spec_digest=spec.digest()):
        report = client.report(audit.id)
        audited = (report.provenance.base_digest, report.provenance.tuned_digest)
        if audited == (base, tuned) and method in ("", report.method_version):
            return audit
    return None
