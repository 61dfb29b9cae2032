"""Problem: what was learned, by which loss, from what."""

from __future__ import annotations

import hashlib
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from inflab import corpus as corpora
from inflab.adapters import from_dataset
from inflab.errors import CorpusError, ModelError, NumericsError, SettingError
from inflab.tasks import Task

__all__ = ["Problem"]


class Problem:
    """A trained model, the task it was trained on, and the corpus it was trained from.

    Args:
        model: any `torch.nn.Module`, trained, in `eval()` mode; it is returned as it was, always.
        task: per-example loss, pseudo-labels and measurement; see `inflab.CausalLM`, `inflab.Task`.
        corpus: an `xr.Dataset` over `train` (`inflab.encode`), or a map-style torch / Hugging Face dataset.

    Raises:
        CorpusError: when the corpus is empty, has duplicate ids, or does not fit the task and the model.
        SettingError: when model or task are of the wrong type.
    """

    def __init__(self, model: nn.Module, task: Task, corpus: Any) -> None:
        if not isinstance(model, nn.Module):
            raise SettingError(f"model is a {type(model).__name__}; expected a torch.nn.Module")
        if not isinstance(task, Task):
            raise SettingError(f"task is a {type(task).__name__}; expected an inflab.Task such as inflab.CausalLM()")
        self.model = model
        self.task = task
        self.corpus = corpus if isinstance(corpus, xr.Dataset) else from_dataset(corpus)
        self.check_corpus(self.corpus, "train")

    def check_corpus(self, corpus: xr.Dataset, dim: str) -> None:
        """Refuse a corpus or a query batch that does not fit this problem.

        Raises:
            CorpusError: naming the ids and the mend.
        """
        if not isinstance(corpus, xr.Dataset):
            raise CorpusError(f"{dim} corpus is a {type(corpus).__name__}; make an xr.Dataset with inflab.encode")
        if corpora.corpus_dim(corpus) != dim:
            raise CorpusError(f"corpus runs over {corpora.corpus_dim(corpus)!r}; make it with dim={dim!r}")
        corpora.check_ids(corpus)
        self.task.check(self.model, corpus)

    def check_model(self) -> None:
        """Refuse a model whose passes would be random or meaningless.

        Raises:
            ModelError: when dropout or batch normalisation is active in `train()` mode.
            NumericsError: when a weight is NaN or infinite.
        """
        active = [name for name, module in self.model.named_modules() if module.training and _is_random(module)]
        if active:
            raise ModelError(
                f"the model is in train() mode and {active[0]!r} acts differently there (dropout or batch "
                "normalisation); call model.eval() first"
            )
        for name, value in [*self.model.named_parameters(), *self.model.named_buffers()]:
            if value.is_floating_point() and not value.is_meta and not bool(torch.isfinite(value).all()):
                # Attention-mask buffers hold -inf on purpose; a weight never does.
                if isinstance(value, nn.Parameter) or bool(torch.isnan(value).any()):
                    raise NumericsError(f"weights of {name!r} hold NaN or infinity; load a sound checkpoint")

    def model_fingerprint(self) -> str:
        """SHA-256 over the class, names, dtypes, shapes and bytes of the model's state, 16 hex digits."""
        digest = hashlib.sha256(type(self.model).__qualname__.encode())
        for name, value in self.model.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            value = _offloaded(self.model, name) if value.is_meta else value
            if value is not None:
                raw = value.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
                digest.update(raw.numpy().data)
        return digest.hexdigest()[:16]

    def corpus_fingerprint(self) -> str:
        """SHA-256 over the corpus' ids and numbers, 16 hex digits."""
        return corpora.fingerprint(self.corpus)

    def __repr__(self) -> str:
        return (
            f"Problem(model={type(self.model).__name__}, task={self.task!r}, "
            f"corpus={self.corpus.sizes['train']} training examples)"
        )


def _offloaded(model: nn.Module, name: str) -> Tensor | None:
    """A weight that accelerate keeps in memory or on disk while the model holds its shape; None without any."""
    owner, _, key = name.rpartition(".")
    hook = getattr(model.get_submodule(owner), "_hf_hook", None)
    for part in (hook, *getattr(hook, "hooks", ())):
        weights = getattr(part, "weights_map", None)
        if weights is not None:
            found: Tensor = weights[key]
            return found
    return None


def _is_random(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):  # instance normalisation too, when it keeps statistics
        return isinstance(module, nn.modules.batchnorm._BatchNorm) or module.track_running_stats
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    # Attention modules of transformers keep functional dropout as a plain number.
    rates = (getattr(module, name, 0.0) for name in ("attention_dropout", "attn_dropout", "dropout", "dropout_p"))
    return any(isinstance(rate, (int, float)) and rate > 0 for rate in rates)
