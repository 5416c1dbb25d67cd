"""What is to be said about a folder before it is pushed or audited: everything that is wrong with it, at once.

Found by the client through the entry point ``checkpoint`` of the group ``backdoor_audit.checks``.
"""

import shlex
import shutil
from pathlib import Path
from typing import Any, Final

from models_store.errors import ModelRejected, ModelsIncompatible, StoreError, translated
from models_store.files import shown
from models_store.verification.pairs import check_pair, tokenizer_note
from models_store.verification.verify import Examination, VerifiedCheckpoint, examine
from models_store.view import write_view

_SAVE_ADAPTER: Final = (
    'python -c "import sys, torch; from safetensors.torch import save_file; '
    'save_file(torch.load(sys.argv[1], weights_only=True), sys.argv[2])" {folder}/{file} '
    "{folder}/adapter_model.safetensors"
)
_SAVE_MODEL: Final = (
    'python -c "import sys; from transformers import AutoModelForCausalLM as M; '
    'M.from_pretrained(sys.argv[1]).save_pretrained(sys.argv[2])" {folder} {folder}-safetensors'
)
_MERGE: Final = (
    'python -c "import sys; from peft import AutoPeftModelForCausalLM as M; '
    'M.from_pretrained(sys.argv[1]).merge_and_unload().save_pretrained(sys.argv[2])" {folder} {folder}-merged'
)
# What a layer does to the unit vectors is its weight, whatever it is packed as.
_DEQUANTISE: Final = (
    'python -c "import sys, torch; from transformers import AutoConfig as C, AutoModelForCausalLM as M; '
    "c = C.from_pretrained(sys.argv[1]); q = M.from_pretrained(sys.argv[1], device_map='auto'); "
    "del c.quantization_config; p = M.from_config(c, dtype=q.dtype).requires_grad_(False); "
    "z = {{n: m for n, m in p.named_modules() if isinstance(m, torch.nn.Linear)}}; "
    "p.load_state_dict({{k: v for k, v in q.state_dict().items() "
    "if k.endswith('bias') or k.rpartition('.')[0] not in z}}, strict=False); "
    "o = dict(dtype=q.dtype, device=q.device); "
    "[m.weight.copy_((f(torch.eye(m.in_features, **o)) - f(torch.zeros(1, m.in_features, **o))).T) "
    "for n, m in z.items() for f in [q.get_submodule(n)]]; "
    'p.save_pretrained(sys.argv[2])" {folder} {folder}-dequantised'
)


def check_folder(folder: Path, base: Path | None = None, fix_into: Path | None = None) -> dict[str, Any]:
    """Check a folder, and the pair where a base is named.

    Args:
        folder: a checkpoint or an adapter.
        base: the folder of the model it was tuned from.
        fix_into: where to write the checkpoint as an audit would open it; nothing is written where it is refused.

    Returns:
        ``accepted``, ``kind``, ``summary``, ``ignored``, ``rewritten``, ``warnings``, and ``problems``, each with
        ``file``, ``key``, ``code``, ``message`` and the ``command`` that mends it.

    Raises:
        OSError: ``fix_into`` is there and holds something.
        NoSpace, StoreUnavailable: it cannot be written.
    """
    tuned = examine(folder)
    problems = [_problem(error, folder) for error in tuned.problems]
    warnings = [] if tuned.checkpoint is None else [*tuned.checkpoint.warnings]
    if base is not None:
        first = examine(base)
        problems += [_problem(error, base) for error in first.problems]
        if first.checkpoint is not None and tuned.checkpoint is not None:
            try:
                warnings += check_pair(first.checkpoint, tuned.checkpoint)
                note = tokenizer_note(first.checkpoint, tuned.checkpoint)
                warnings += [] if note is None else [note]
            except (ModelRejected, ModelsIncompatible) as error:
                problems.append(_problem(error, folder))
    elif tuned.checkpoint is not None and tuned.kind == "full" and not tuned.checkpoint.has_tokenizer:
        warnings.append("it has no tokenizer.json, so it can be audited as a fine-tuned model and not be a base")
    if fix_into is not None and not problems and tuned.checkpoint is not None:
        _write(tuned.checkpoint, fix_into)
    return {
        "accepted": not problems,
        "kind": tuned.kind,
        "summary": _summary(tuned),
        "ignored": list(tuned.ignored),
        "rewritten": [] if tuned.checkpoint is None else list(tuned.checkpoint.rewritten),
        "warnings": warnings,
        "problems": problems,
    }


def _summary(examination: Examination) -> str:
    """What an audit of it would be."""
    checkpoint = examination.checkpoint
    if checkpoint is None:
        return "it would not be audited"
    if checkpoint.adapter is not None:
        base = checkpoint.base_model_name
        note = f", which notes {shown(base)} as its base" if base else ""
        adapter = checkpoint.adapter
        weights = "base and fine-tuned model share one set of weights"
        if adapter.trained:
            weights = "it brings trained weights of its own, so it is put on a second copy of the base"
        count = len(adapter.modules) + len(adapter.embeddings)
        return f"a LoRA adapter of rank {adapter.rank} on {count} modules{note}; {weights}"
    return (
        f"a whole {checkpoint.architecture} model with {checkpoint.n_parameters:,} parameters "
        f"({', '.join(checkpoint.dtypes)}); it is loaded beside its base"
    )


def _problem(error: StoreError, folder: Path) -> dict[str, str]:
    file, colon, rest = error.message.partition(": ")
    named = colon and " " not in file
    quoted = rest.split("'") if named else []
    return {
        "file": file if named else "",
        "key": quoted[1] if len(quoted) > 2 else "",
        "code": error.code,
        "message": error.message,
        "command": _command(error, folder, file),
    }


def _command(error: StoreError, folder: Path, file: str) -> str:
    """The command that mends it, if there is one; otherwise what to do, in words."""
    place = shlex.quote(str(folder))
    if "only as a pickle" in error.message:
        return (_SAVE_ADAPTER if file.startswith("adapter") else _SAVE_MODEL).format(
            folder=place, file=shlex.quote(file)
        )
    if "merge_and_unload" in error.hint:
        return _MERGE.format(folder=place)
    if "point at the folder " in error.hint:
        inside = error.hint.partition("point at the folder ")[2].removesuffix(" inside it")
        return f"backdoor-audit models check {shlex.quote(str(folder / inside))}"
    if "copy config.json from the base" in error.hint:
        return f"cp BASE/config.json {place}/"
    if error.hint.startswith("dequantise"):
        return _DEQUANTISE.format(folder=place)
    return error.hint


def _write(checkpoint: VerifiedCheckpoint, into: Path) -> None:
    """Write what an audit would open, as files of its own."""
    if into.exists():
        into.rmdir()  # an empty folder is fine; anything in it is somebody's
    view = write_view(checkpoint, into)
    with translated("writing a checkpoint"):
        for path in view.folder.rglob("*"):
            if path.is_symlink():
                source = path.resolve(strict=True)
                path.unlink()
                shutil.copyfile(source, path)
