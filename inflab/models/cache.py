"""Trained models on disk: one folder each, named by the fingerprint of everything that made it.

A folder holds what `transformers` reads (config.json, model.safetensors, tokenizer files) and card.json: the recipe
in full and the SHA-256 of the weights. It is written beside its place and moved there whole, so a reader meets all
of it or nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inflab.errors import StoreError

__all__ = ["CACHE_VARIABLE", "cache_root", "damage", "fingerprint", "place", "read", "write"]

CACHE_VARIABLE = "INFLAB_CACHE"
_WEIGHTS, _CARD = "model.safetensors", "card.json"


def cache_root(cache: str | Path | None) -> Path:
    """The folder of cached models, made when it is not there.

    Args:
        cache: a folder; None is the environment variable INFLAB_CACHE, or else the user's cache folder.

    Returns:
        A folder that can be written.

    Raises:
        StoreError: when it cannot; before any training.
    """
    from platformdirs import user_cache_dir

    root = Path(cache or os.environ.get(CACHE_VARIABLE) or user_cache_dir("inflab")) / "models"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise StoreError(
            f"cache {str(root)!r} cannot be written ({error.strerror or error}); pass cache=, or set {CACHE_VARIABLE}, "
            "to a folder that can"
        ) from error
    return root


def fingerprint(made_from: Mapping[str, Any]) -> str:
    """SHA-256 of a JSON-able description, 16 hex digits."""
    text = json.dumps(made_from, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def place(root: Path, name: str, made_from: Mapping[str, Any]) -> Path:
    """Where a model of this description belongs."""
    return root / f"{name}-{fingerprint(made_from)}"


def damage(folder: Path, made_from: Mapping[str, Any]) -> str | None:
    """What is wrong with a cached model, in words; None when it is whole and of this description."""
    try:
        card = json.loads((folder / _CARD).read_text(encoding="utf-8"))
        digest = _digest(folder / _WEIGHTS)
    except FileNotFoundError as error:
        return f"{Path(error.filename).name} is missing"
    except (OSError, ValueError) as error:
        return f"{_CARD} or {_WEIGHTS} cannot be read ({error})"
    if not isinstance(card, dict) or card.get("made_from") != json.loads(json.dumps(made_from)):
        return f"{_CARD} describes another model"
    if card.get("sha256") != digest:
        return f"{_WEIGHTS} has SHA-256 {digest[:16]}..., its card says {str(card.get('sha256'))[:16]}..."
    return None


def read(folder: Path) -> tuple[Any, Any]:
    """Model (eval mode) and tokenizer of a folder that is not damaged."""
    import torch
    from safetensors.torch import load_model
    from transformers import AutoConfig, PreTrainedTokenizerFast

    from inflab.models.training import blank

    model = blank(AutoConfig.from_pretrained(folder, local_files_only=True), seed=0)
    with torch.inference_mode(False):
        load_model(model, folder / _WEIGHTS)
    return model, PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)


def write(folder: Path, model: Any, tokenizer: Any, made_from: Mapping[str, Any], report: Mapping[str, Any]) -> None:
    """Write a model where it belongs, in place of whatever stands there.

    Args:
        folder: from `place`.
        model: a `transformers` model.
        tokenizer: its tokenizer.
        made_from: what the fingerprint was taken of.
        report: what else the card should say: loss, seconds.
    """
    from safetensors.torch import save_model

    part = Path(tempfile.mkdtemp(prefix=".part-", dir=folder.parent))
    try:
        model.config.save_pretrained(part)
        tokenizer.save_pretrained(part)
        save_model(model, str(part / _WEIGHTS), metadata={"format": "pt"})
        card = {"made_from": made_from, "sha256": _digest(part / _WEIGHTS), "report": report}
        (part / _CARD).write_text(json.dumps(card, indent=1), encoding="utf-8")
        _put(part, folder, made_from)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _put(part: Path, folder: Path, made_from: Mapping[str, Any]) -> None:
    if folder.exists():
        # Moved aside before it is removed: nobody meets a folder that is half gone.
        with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as aside:
            folder.rename(Path(aside) / "replaced")
    try:
        part.rename(folder)
    except OSError:
        # Another process put the same model there in the meantime: as good as ours.
        if damage(folder, made_from) is not None:
            raise


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
