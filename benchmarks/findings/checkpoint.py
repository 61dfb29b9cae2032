"""Small trained models that are committed: how each is made, kept and read back.

Weights are rounded to float16 and kept as safetensors; the rounded model *is* the model, and the loss in its card is
measured after rounding. A file carries what made it, and is refused when the recipe or the corpus is another one now.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from inflab import models
from inflab.corpus import fingerprint
from inflab.models.training import blank

__all__ = ["FOLDER", "SEEDS", "Recipe", "build", "card", "is_small", "load", "loss", "registered"]

FOLDER = Path(__file__).resolve().parents[2] / "notebooks" / "findings" / "checkpoints"
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Recipe:
    """How a checkpoint is made.

    Args:
        name: of the file, "topic-variant"; the seed follows it.
        corpus: what it is trained on, without arguments; the same text at every call.
        tokenizer: the tokenizer of that corpus, without arguments.
        config: arguments of the `transformers` config, without the vocabulary.
        training: arguments of `inflab.models.train`, without seed and threads.
        family: "gpt2" (Conv1D, with bias) or "neox" (Linear, with bias).
    """

    name: str
    corpus: Callable[[], xr.Dataset]
    tokenizer: Callable[[], Any]
    config: dict[str, Any]
    training: dict[str, Any]
    family: Literal["gpt2", "neox"] = "gpt2"
    _seen: dict[str, str] = field(default_factory=dict, repr=False, compare=False)

    def build_config(self) -> Any:
        """The `transformers` config: no dropout, so that the trained model is the one that was optimised."""
        from transformers import GPT2Config, GPTNeoXConfig

        ends = {"bos_token_id": 0, "eos_token_id": 0, "vocab_size": len(self.tokenizer())}
        if self.family == "gpt2":
            return GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ends, **self.config)
        return GPTNeoXConfig(hidden_dropout=0.0, attention_dropout=0.0, **ends, **self.config)

    def path(self, seed: int) -> Path:
        """Where the checkpoint of a seed lies."""
        return FOLDER / f"{self.name}-{seed}.safetensors"

    def made_from(self, seed: int) -> dict[str, Any]:
        """All that the weights depend on, besides the libraries."""
        if "corpus" not in self._seen:
            self._seen["corpus"] = fingerprint(self.corpus())
        settings = {"family": self.family, "config": self.config, "training": self.training, "seed": seed}
        return json.loads(json.dumps({**settings, "corpus": self._seen["corpus"]}, default=_plain))


def registered() -> Iterator[Recipe]:
    """Every recipe that a module beside this one holds in its `RECIPES` (name -> Recipe).

    Yields:
        The recipes.
    """
    for topic in sorted(path.stem for path in Path(__file__).parent.glob("[a-z]*.py")):
        yield from getattr(import_module(f"benchmarks.findings.{topic}"), "RECIPES", {}).values()


def build(recipe: Recipe, seed: int, *, progress: bool = True) -> Path:
    """Train a checkpoint and write it.

    Args:
        recipe: how.
        seed: of weights and order.
        progress: show a bar.

    Returns:
        The file.
    """
    corpus = recipe.corpus()
    trained = models.train(
        recipe.build_config(), corpus, seed=seed, threads=1, progress=progress, label=f"{recipe.name}-{seed}",
        **recipe.training,
    )  # fmt: skip
    tied = set(trained.model._tied_weights_keys or ())
    kept = {name: value.half().contiguous() for name, value in trained.model.state_dict().items() if name not in tied}
    trained.model.load_state_dict({name: value.float() for name, value in kept.items()}, strict=False)
    about = {
        "made_from": recipe.made_from(seed),
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "loss": round(float(loss(trained.model, corpus)), 4),
        "seconds": round(trained.seconds, 1),
        "script": "make checkpoints",
    }
    FOLDER.mkdir(parents=True, exist_ok=True)
    part = recipe.path(seed).with_suffix(".part")
    save_file(kept, part, {"card": json.dumps(about)})
    part.chmod(0o644)  # as any other file: safetensors writes for its owner alone
    part.rename(recipe.path(seed))
    return recipe.path(seed)


def card(recipe: Recipe, seed: int) -> dict[str, Any]:
    """What a committed checkpoint says of itself: what made it, parameters, loss in nat per target token.

    Args:
        recipe: of the checkpoint.
        seed: of the checkpoint.

    Returns:
        The card.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it was made by another recipe or from another corpus than the code now says.
    """
    path = recipe.path(seed)
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there; run: make checkpoints")
    with safe_open(path, "pt") as file:
        about: dict[str, Any] = json.loads(file.metadata()["card"])
    then, now = about["made_from"], recipe.made_from(seed)
    other = sorted(key for key in now if then.get(key) != now[key])
    if other:
        raise ValueError(
            f"{path.name} was made with another {', '.join(other)} than the code says; run: make checkpoints"
        )
    return about


def load(recipe: Recipe, seed: int = 0) -> Any:
    """Read a committed checkpoint as a float32 model in eval mode.

    Args:
        recipe: of the checkpoint.
        seed: of the checkpoint.

    Returns:
        The `transformers` model.

    Raises:
        ValueError: when weights are missing.
    """
    card(recipe, seed)
    model = blank(recipe.build_config(), seed=0)
    found = model.load_state_dict({k: v.float() for k, v in load_file(recipe.path(seed)).items()}, strict=False)
    missing = set(found.missing_keys) - set(model._tied_weights_keys or ())
    if missing or found.unexpected_keys:
        raise ValueError(f"{recipe.path(seed).name} lacks {sorted(missing)}, has {found.unexpected_keys} too many")
    model.tie_weights()
    return model.eval()


@torch.no_grad()
def loss(model: Any, corpus: xr.Dataset, *, batch_size: int = 64) -> float:
    """Mean -log p of the target tokens of a corpus, in nat per token.

    Args:
        model: a causal language model.
        corpus: encoded texts.
        batch_size: sequences at once.

    Returns:
        The loss.
    """
    token_bt, text_bt, target_bt = (
        torch.from_numpy(corpus[n].to_numpy()) for n in ("token_id", "is_text", "is_target")
    )
    total, count = 0.0, 0
    for start in range(0, len(token_bt), batch_size):
        rows = slice(start, start + batch_size)
        logits_btv = model(token_bt[rows].long(), attention_mask=text_bt[rows].long()).logits[:, :-1]
        where = target_bt[rows][:, 1:]
        total += float(F.cross_entropy(logits_btv[where], token_bt[rows].long()[:, 1:][where], reduction="sum"))
        count += int(where.sum())
    return total / count


def is_small() -> bool:
    """Whether notebooks run at their reduced size: the same code for a test."""
    return os.environ.get("INFLAB_SIZE") == "small"


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    raise TypeError(f"{value!r} cannot stand in a card")
