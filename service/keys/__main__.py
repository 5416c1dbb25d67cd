"""``python -m service.keys``: creates and revokes API keys directly in the ledger.

For the first key of a service that requires one, and for an operator who has lost the last; otherwise use the API or
``backdoor-audit keys``. Uses BACKDOOR_AUDIT_DATABASE_URL, or the ledger in BACKDOOR_AUDIT_DATA_DIR.
"""

import argparse
import json
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from common import logs
from common.private_files import write_privately
from jobs.errors import KeyNotFound, LedgerError
from jobs.keys import SCOPES
from jobs.ledger import Ledger
from service.http.auth import LOCAL_OWNER
from service.keys.schemas import KeyCreated, KeyOut

EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 3


def main(arguments: list[str] | None = None) -> int:
    """Run the command; a new key's text is printed to standard output, once."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    logs.configure()
    write_privately()
    if not chosen.database_url and not chosen.data_dir:
        parser.error("pass --data-dir or --database-url, or set BACKDOOR_AUDIT_DATA_DIR or BACKDOOR_AUDIT_DATABASE_URL")
    url = chosen.database_url or f"sqlite:///{Path(chosen.data_dir).expanduser().absolute()}/ledger.sqlite3"
    try:
        with closing(Ledger(url)) as ledger:
            ledger.migrate()
            answer = _carry_out(ledger, chosen)
    except ValueError as error:
        parser.error(str(error))
    except KeyNotFound:
        parser.error("there is no key with this id")
    except LedgerError as error:
        sys.stderr.write(f"the ledger cannot be used ({type(error).__name__})\n")
        return EXIT_UNAVAILABLE
    sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    return 0


def _carry_out(ledger: Ledger, chosen: argparse.Namespace) -> Any:
    if chosen.action == "create":
        lifetime_s = None if chosen.expires_in_days is None else chosen.expires_in_days * 86_400
        record, token = ledger.keys.create(
            owner=chosen.owner, name=chosen.name, scopes=chosen.scopes, lifetime_s=lifetime_s
        )
        return KeyCreated(key=token, **KeyOut.of(record).model_dump()).model_dump(mode="json")
    if chosen.action == "revoke":
        ledger.keys.revoke(chosen.key_id)
        return {"revoked": chosen.key_id}
    return [KeyOut.of(record).model_dump(mode="json") for record in ledger.keys.list()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m service.keys", description=__doc__)
    parser.add_argument("--data-dir", default=os.environ.get("BACKDOOR_AUDIT_DATA_DIR"))
    parser.add_argument("--database-url", default=os.environ.get("BACKDOOR_AUDIT_DATABASE_URL"))
    actions = parser.add_subparsers(dest="action", required=True)
    create = actions.add_parser("create", help="create a key and show it once")
    create.add_argument("--name", required=True, help="what it is for")
    create.add_argument("--scopes", required=True, nargs="+", choices=SCOPES, help="what it may do")
    create.add_argument(
        "--owner", default=LOCAL_OWNER, help=f"owner of the audits that it can see; {LOCAL_OWNER} by default"
    )
    create.add_argument("--expires-in-days", type=float, help="when it expires; by default, never")
    actions.add_parser("list", help="list the keys of every owner")
    revoke = actions.add_parser("revoke", help="revoke a key")
    revoke.add_argument("key_id", metavar="ID")
    return parser


if __name__ == "__main__":
    sys.exit(main())
