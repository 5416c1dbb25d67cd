#!/usr/bin/env bash
# Audits one checkpoint through a running service and leaves the report in several forms.
#
# Runs backdoor-audit and exits with its exit code, or with 4 where an input or the command is missing. Inputs come from
# the environment:
#   BACKDOOR_AUDIT_URL, BACKDOOR_AUDIT_API_KEY   the service
#   AUDIT_BASE, AUDIT_TUNED                      model references
#   AUDIT_TRIGGERED, AUDIT_CLEAN                 the pair
#   AUDIT_TEMPLATE, AUDIT_CARRIERS, AUDIT_PRESET optional, as for `backdoor-audit submit`
#   AUDIT_CANDIDATES                             a file with several pairs, instead of the pair
#   AUDIT_SEARCH                                 quick, standard or thorough: search for strings instead of naming a pair
#   AUDIT_LOGS                                   with it, a file with prompts in which the trigger may be
#   AUDIT_LIBRARY, AUDIT_WEBHOOK                 optional, as for `backdoor-audit submit`
#   AUDIT_LABELS                                 optional, NAME=VALUE, one per line
#   AUDIT_SPEC                                   a file with the whole spec, instead of all of these
#   AUDIT_ONCE (true)                            reuse an audit of the same spec and checkpoints
#   AUDIT_UNLESS_ACCEPTED (false)                pass on a verdict that somebody has accepted
#   AUDIT_SIGNING_KEY                            a private key (PEM), or the path of its file, to sign an attestation with
#   AUDIT_FAIL_ON (review), AUDIT_TIMEOUT (7200 s), AUDIT_OUT (backdoor-audit-report)
set -uo pipefail

out="${AUDIT_OUT:-backdoor-audit-report}"
fail_on="${AUDIT_FAIL_ON:-review}"
mkdir -p "$out" || exit 4

# Exit 1 would mean "the verdict meets --fail-on", 127 as nothing that is documented.
wrong() { echo "audit.sh: $1" >&2; exit 4; }
command -v backdoor-audit > /dev/null || wrong "the command backdoor-audit is not installed; install the client: pip install ./client"

command=submit
[ -z "${AUDIT_SEARCH:-}" ] || command=search
arguments=(--fail-on "$fail_on")
waiting=(--fail-on "$fail_on" --timeout "${AUDIT_TIMEOUT:-7200}")
[ "${AUDIT_ONCE:-true}" = false ] || arguments+=(--once)
[ "${AUDIT_UNLESS_ACCEPTED:-false}" != true ] || waiting+=(--unless-accepted)
if [ -n "${AUDIT_SPEC:-}" ]; then
  arguments+=(--spec "$AUDIT_SPEC")
else
  needed=(AUDIT_BASE AUDIT_TUNED)
  [ -n "${AUDIT_CANDIDATES:-}${AUDIT_SEARCH:-}" ] || needed+=(AUDIT_TRIGGERED AUDIT_CLEAN)
  for input in "${needed[@]}"; do
    [ -n "${!input:-}" ] || wrong "$input is not set, and neither is AUDIT_SPEC"
  done
  arguments+=(--base "$AUDIT_BASE" --tuned "$AUDIT_TUNED")
  if [ -n "${AUDIT_SEARCH:-}" ]; then
    for input in AUDIT_CANDIDATES AUDIT_TRIGGERED AUDIT_CLEAN AUDIT_TEMPLATE; do
      [ -z "${!input:-}" ] || wrong "$input and AUDIT_SEARCH are both set: a search is told no strings"
    done
    arguments+=(--budget "$AUDIT_SEARCH")
    [ -z "${AUDIT_LOGS:-}" ] || arguments+=(--logs "$AUDIT_LOGS")
  elif [ -n "${AUDIT_LOGS:-}" ]; then
    wrong "AUDIT_LOGS is set, and AUDIT_SEARCH is not"
  fi
  [ -z "${AUDIT_CANDIDATES:-}" ] || arguments+=(--candidates "$AUDIT_CANDIDATES")
  [ -z "${AUDIT_TRIGGERED:-}" ] || arguments+=(--triggered "$AUDIT_TRIGGERED")
  [ -z "${AUDIT_CLEAN:-}" ] || arguments+=(--clean "$AUDIT_CLEAN")
  [ -z "${AUDIT_TEMPLATE:-}" ] || arguments+=(--template "$AUDIT_TEMPLATE")
  [ -z "${AUDIT_CARRIERS:-}" ] || arguments+=(--carriers "$AUDIT_CARRIERS")
  [ -z "${AUDIT_PRESET:-}" ] || arguments+=(--preset "$AUDIT_PRESET")
  [ -z "${AUDIT_LIBRARY:-}" ] || arguments+=(--library "$AUDIT_LIBRARY")
  [ -z "${AUDIT_WEBHOOK:-}" ] || arguments+=(--webhook "$AUDIT_WEBHOOK")
  while IFS= read -r label; do
    [ -z "$label" ] || arguments+=(--label "$label")
  done <<< "${AUDIT_LABELS:-}"
fi

id="$(backdoor-audit "$command" "${arguments[@]}")" || exit $?
# It goes into a file that the runner reads line by line, and so does the verdict below.
case "$id" in *[!A-Za-z0-9_-]* | "") wrong "the service did not answer with an audit's id" ;; esac
echo "$id" > "$out/audit-id"

# A stopped job stops waiting; the audit goes on, and the next run of the same job finds it.
backdoor-audit wait "$id" "${waiting[@]}"
status=$?

for form in json:report.json html:report.html sarif:report.sarif junit:report.xml markdown:report.md; do
  backdoor-audit report "$id" --format "${form%%:*}" -o "$out/${form#*:}" 2>/dev/null || rm -f "$out/${form#*:}"
done

backdoor-audit bom "$id" -o "$out/bom.cdx.json" 2>/dev/null || rm -f "$out/bom.cdx.json"
if [ -n "${AUDIT_SIGNING_KEY:-}" ] && [ -f "$out/report.json" ]; then
  key="$AUDIT_SIGNING_KEY"
  if [ "${key#-----BEGIN}" != "$key" ]; then
    key="$(mktemp)" || exit 2  # readable by its owner alone
    trap 'rm -f "$key"' EXIT
    printf '%s\n' "$AUDIT_SIGNING_KEY" > "$key"
  fi
  # Whoever asks for an attestation does not pass without one.
  backdoor-audit attest "$id" --key "$key" -o "$out/attestation.json" || { [ "$status" -ne 0 ] || status=2; }
fi

if [ -n "${GITHUB_OUTPUT:-}" ]; then
  verdict="$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["verdict"])' "$out/report.json" 2>/dev/null)"
  case "$verdict" in *[!a-z_]*) verdict="" ;; esac
  report=""
  [ ! -f "$out/report.html" ] || report="$out/report.html"
  attestation=""
  [ ! -f "$out/attestation.json" ] || attestation="$out/attestation.json"
  { echo "audit-id=$id"; echo "exit-code=$status"; echo "verdict=$verdict"; echo "report=$report"
    echo "attestation=$attestation"; } >> "$GITHUB_OUTPUT"
fi
if [ -n "${GITHUB_STEP_SUMMARY:-}" ] && [ -f "$out/report.md" ]; then
  cat "$out/report.md" >> "$GITHUB_STEP_SUMMARY"
fi
exit "$status"
