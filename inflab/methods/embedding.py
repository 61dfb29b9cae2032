"""Embedding: cosine of mean hidden states in the place of influence, the semantic baseline."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from inflab.corpus import batch, corpus_dim
from inflab.device import model_device, to_tensor
from inflab.errors import CorpusError, ModelError, NumericsError, SettingError, check_count
from inflab.memory import parse_memory
from inflab.methods.similarity import Similarity
from inflab.problem import Problem
from inflab.progress import progress_bar
from inflab.schema import variable_attrs

__all__ = ["Embedding"]

_TOKENS = 4096  # of a batch


@dataclass(frozen=True, kw_only=True)
class Embedding(Similarity):
    """Cosine of an embedding of query and training example.

    Args:
        encoder: what embeds a corpus: `(corpus) -> (n, d)`. None takes the model itself: the input of the last Linear
            layer that runs, averaged over the text's tokens. That is the last hidden state of a language model, under
            its output head, and the penultimate activation of other networks. A fit with an encoder of one's own can be
            saved, but not loaded with a problem: functions are not kept.

    Example:
        >>> found = inflab.Embedding().fit(problem).score(queries)["influence"]
        >>> found.dims, found.attrs["units"]
        (('query', 'train'), '1')
    """

    encoder: Callable[[xr.Dataset], np.ndarray] | None = None

    described: ClassVar[tuple[str, str, str]] = (
        "cosine of embeddings",
        "1",
        "cosine of the embeddings of query and training example: a similarity, not nats",
    )

    def __post_init__(self) -> None:
        if self.encoder is not None and not callable(self.encoder):
            raise SettingError(
                f"encoder={self.encoder!r} is no function; functions are not saved: fit again with the encoder, or use "
                "encoder=None for the model's own hidden states"
            )

    def settings(self) -> str:
        """The settings as JSON text; an encoder by its name."""
        encoder = self.encoder
        name = None if encoder is None else getattr(encoder, "__qualname__", type(encoder).__qualname__)
        return json.dumps({"encoder": name})

    def learned(
        self, problem: Problem, *, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> dict[str, xr.Dataset]:
        """The embeddings of the training corpus."""
        value_td = self._embedded(problem, problem.corpus, memory, batch_size, progress)
        attrs = variable_attrs("embedding", "1", "embedding of each training example")
        coords = {"train": problem.corpus["train"].to_numpy(), "activation": np.arange(value_td.shape[1])}
        return {"/embeddings": xr.Dataset({"embedding": (("train", "activation"), value_td, attrs)}, coords=coords)}

    def compare(
        self,
        problem: Problem,
        held: xr.DataTree,
        queries: xr.Dataset,
        train: xr.Dataset,
        *,
        memory: int | str | None,
        batch_size: int | None,
        progress: bool,
    ) -> np.ndarray:
        """Cosines `(query, train)`; 0 for an embedding of zeros."""
        if train is problem.corpus:
            value_td = held["embeddings"]["embedding"].to_numpy()
        else:
            value_td = self._embedded(problem, train, memory, batch_size, progress)
        value_qd = self._embedded(problem, queries, memory, batch_size, progress)
        if value_qd.shape[1] != value_td.shape[1]:
            sizes = f"{value_td.shape[1]} columns for `train` and {value_qd.shape[1]} for `query`"
            raise CorpusError(f"encoder gave {sizes}; they must agree")
        cosine_qt: np.ndarray = _unit(value_qd) @ _unit(value_td).T
        return cosine_qt

    def _embedded(
        self, problem: Problem, corpus: xr.Dataset, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> np.ndarray:
        """Embeddings `(n, d)` of a corpus, finite."""
        if batch_size is not None:
            check_count("batch_size", batch_size, "None for the budget's own")
        dim = corpus_dim(corpus)
        if self.encoder is None:
            found = _hidden(problem, corpus, parse_memory(memory, model_device(problem.model)), batch_size, progress)
        else:
            found = np.asarray(self.encoder(corpus))
            if found.ndim != 2 or len(found) != corpus.sizes[dim] or found.dtype.kind not in "fiu":
                raise CorpusError(
                    f"encoder gave shape {found.shape} and dtype {found.dtype} for {corpus.sizes[dim]} of {dim!r}; "
                    "it must give real numbers (n, d), a row for each"
                )
        is_bad = ~np.isfinite(found).all(axis=1)
        if is_bad.any():
            raise NumericsError(f"the embedding of {dim} {corpus[dim].to_numpy()[is_bad].tolist()[0]!r} is not finite")
        return found


def _hidden(problem: Problem, corpus: xr.Dataset, memory: int, batch_size: int | None, progress: bool) -> np.ndarray:
    """Mean over tokens of the input of the last Linear layer that runs, `(n, d)`."""
    problem.check_model()
    model, task = problem.model, problem.task
    device = model_device(model)
    floats = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    tokens = int(corpus.sizes.get("token", 1))
    vocabulary = int(getattr(getattr(model, "config", None), "vocab_size", 1) or 1)
    most = min(_TOKENS // tokens, memory // (16 * tokens * vocabulary))  # a quarter of the budget for the logits
    size = batch_size or max(1, most)
    n = corpus.sizes[corpus_dim(corpus)]
    last: list[Tensor] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        last[:] = [args[0] if args else kwargs["input"]]

    hooks = [
        module.register_forward_pre_hook(keep, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, nn.Linear)
    ]
    rows: list[np.ndarray] = []
    bar = progress_bar(n, "embeddings", "example", shown=progress)
    try:
        with bar, torch.no_grad():
            for start in range(0, n, size):
                arrays = batch(corpus, np.arange(start, min(start + size, n)))
                given = {name: to_tensor(value, device, floats) for name, value in arrays.items()}
                last.clear()
                task.forward(model, given)
                rows.append(_mean(last, task.mask(given), min(start + size, n) - start))
                bar.update(len(rows[-1]))
    finally:
        for hook in hooks:
            hook.remove()
    return np.concatenate(rows)


def _mean(last: list[Tensor], mask: Tensor | None, n: int) -> np.ndarray:
    """Mean over the positions that count of `(example, ..., d)`."""
    if not last or len(last[0]) != n or last[0].ndim < 2:
        what = "runs no Linear layer" if not last else f"ends in a Linear layer with input {tuple(last[0].shape)}"
        raise ModelError(f"the model {what}, so it has no embedding of each of {n} examples; give encoder=")
    value = last[0].detach()
    value = value if value.dtype == torch.float64 else value.float()
    flat = value.reshape(n, -1, value.shape[-1])
    if mask is None or flat.shape[1] != mask.shape[1]:
        return flat.mean(1).cpu().numpy()
    # Selected, not multiplied: padding may hold NaN.
    total = torch.where(mask[..., None].to(flat.device), flat, 0).sum(1)
    return (total / mask.sum(1, keepdim=True).to(total)).cpu().numpy()


def _unit(value: np.ndarray) -> np.ndarray:
    value = value.astype(np.float64)
    norm = np.linalg.norm(value, axis=1, keepdims=True)
    unit: np.ndarray = np.divide(value, norm, out=np.zeros_like(value), where=norm > 0)
    return unit
