"""``submit --once``: an audit that was made of these very checkpoints is not made again.

An earlier audit counts where it answered about a fine-tuned model of the same content, on a base of the same content,
with the same spec, by the version of the method that the service has now. The content is known by digest; the service
knows the digest of a checkpoint that was used once. A checkpoint whose digest it does not know has not been audited as
it is now, and is filed. A library is known by its name alone: an answer counts with the models that it had then.
"""

from backdoor_audit.client.blocking import AuditClient
from backdoor_audit.client.responses import Audit
from backdoor_audit.contract.spec import AuditSpec


def submit_once(client: AuditClient, spec: AuditSpec) -> Audit:
    """The newest audit that answered this for the same content, or a new one."""
    earlier = earlier_answer(client, spec)
    return client.submit(spec) if earlier is None else earlier


def earlier_answer(client: AuditClient, spec: AuditSpec) -> Audit | None:
    """The newest audit that answered this for the same content; None where there is none."""
    digests = {model.reference: model.digest for model in client.models()}
    base, tuned = digests.get(spec.base_model), digests.get(spec.fine_tuned)
    if base is None or tuned is None:
        return None
    method = client.alive().method_version
    for audit in client.audits(status="succeeded", tuned_digest=tuned, spec_digest=spec.digest()):
        report = client.report(audit.id)
        if report.provenance.base_digest == base and method in ("", report.method_version):
            return audit
    return None
