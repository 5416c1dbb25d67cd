"""Write the committed documents, or check that they are the code's. Without an option, the API's document is
printed.
"""

import argparse
import sys

from service.openapi_document import committed


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 1 if a committed document is outdated."""
    parser = argparse.ArgumentParser(prog="python -m service.openapi_document", description=__doc__)
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--write", action="store_true", help="write the files in openapi/")
    action.add_argument("--check", action="store_true", help="fail if a file in openapi/ differs from the code")
    chosen = parser.parse_args(arguments)
    if chosen.write:
        committed.write()
    elif chosen.check:
        outdated = committed.outdated()
        for name in outdated:
            sys.stderr.write(f"openapi/{name} differs from the code; run: make openapi\n")
        return 1 if outdated else 0
    else:
        sys.stdout.write(committed.texts()[committed.DOCUMENT])
    return 0


if __name__ == "__main__":
    sys.exit(main())
