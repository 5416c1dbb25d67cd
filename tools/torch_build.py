"""Exit status 1 if the installed torch needs the CUDA libraries of ``requirements/cuda.lock``.

PyPI's build for Linux does; a build with a local version, such as ``2.13.0+cpu``, brings what it needs.
"""

import sys
from importlib.metadata import version

if __name__ == "__main__":
    sys.exit(sys.platform == "linux" and "+" not in version("torch"))
