"""``python -m worker.sandbox.probe_devices DEVICE``: what torch sees behind the fence of an audit on ``DEVICE``.

JSON in the last line.

With ``--open`` no fence is put up. The doctor asks both where they may differ: a driver that the fence keeps from
starting shows no GPU, and with ``DEVICE=auto`` audits would run on the CPU without a word.
"""

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from worker.sandbox.allowed_paths import bare_reach
from worker.sandbox.confinement import confine


def main(arguments: Sequence[str]) -> int:
    """Print it; 1 if torch cannot be loaded."""
    device, *options = arguments
    missing: list[str] = []
    if "--open" not in options:
        walls = confine(memory_bytes=None, file_bytes=None, reach=bare_reach(device, Path(tempfile.gettempdir())))
        missing = sorted(name for name, stands in walls.items() if not stands)
    try:
        import torch
    except (ImportError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    cuda = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    supported = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    answer = {
        "torch": torch.__version__,
        "built_for_gpus": bool(torch.version.cuda or torch.version.hip),
        "cuda": cuda if torch.cuda.is_available() else [],
        "threads": torch.get_num_threads(),
        "bf16": bool(supported and supported()),
        "missing": missing,
    }
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
