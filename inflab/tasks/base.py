"""The base of all tasks, their random numbers, and the small functions they share."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from inflab.errors import CorpusError, ModelError, SettingError

__all__ = ["Batch", "Draws", "Task", "at_least_float32", "check_choice", "draw_class", "logits_of", "margin", "refuse"]

Batch = Mapping[str, Tensor]


class Draws:
    """Random numbers for the examples of one batch, keyed by seed and example id.

    Args:
        seed: the seed of the whole fit.
        ids: the ids of the batch's examples, in order.
    """

    def __init__(self, seed: int, ids: Sequence[Any]) -> None:
        keys = (hashlib.blake2b(f"{seed}:{i}".encode(), digest_size=16).digest() for i in ids)
        self._streams = [np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little"))) for key in keys]

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1), float64 on the CPU, of shape `(example, *shape)`."""
        return torch.from_numpy(np.stack([stream.random(shape) for stream in self._streams]))

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers, float64 on the CPU, of shape `(example, *shape)`."""
        return torch.from_numpy(np.stack([stream.standard_normal(shape) for stream in self._streams]))


class Task:
    """Base of all tasks. A subclass writes `loss`, `sample` and, if f is not -loss, `measure`.

    A batch maps the corpus' variable names to tensors whose first axis is the example. `forward` may be
    overridden when the model does not take `batch["input"]` alone.

    Example:
        >>> class Poisson(inflab.Task):
        ...     def loss(self, outputs, batch):
        ...         return (outputs.exp() - batch["target"] * outputs).sum(1)
        >>> Poisson().measure(torch.zeros(1, 1), {"target": torch.tensor([[2.0]])})
        tensor([-1.])
    """

    def prepare(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What goes to the device for a batch: its arrays, and what is better read off them here than asked of a GPU.

        Args:
            arrays: variable name -> array, first axis the example.

        Returns:
            The same arrays, with more or without.
        """
        return arrays

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        """Run the model; the outputs go to `loss`, `sample` and `measure`."""
        return logits_of(model, model(batch["input"]))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Training loss of each example in nats, `(example,)`, summed over its tokens."""
        raise TypeError(f"{type(self).__name__} must define loss(outputs, batch) -> (example,)")

    def sample(self, outputs: Tensor, batch: Batch, draws: Draws) -> Batch:
        """The batch with its labels replaced by draws from the model's own predictive distribution."""
        raise TypeError(
            f"{type(self).__name__} must define sample(outputs, batch, draws) -> batch; or use fisher='empirical'"
        )

    @property
    def measures(self) -> str:
        """What `measure` gives: the task's own `measurement`, "log_probability" when it is minus the loss, "custom"."""
        own = getattr(self, "measurement", None)
        if isinstance(own, str):
            return own
        return "log_probability" if type(self).measure is Task.measure else "custom"

    def measure(self, outputs: Tensor, batch: Batch) -> Tensor:
        """The query measurement f of each example, `(example,)`; minus the loss unless overridden."""
        return -self.loss(outputs, batch)

    def mask(self, batch: Batch) -> Tensor | None:
        """Which tokens are text, `(example, token)` bool, or None where every position counts."""
        return None

    def check(self, model: nn.Module, corpus: xr.Dataset) -> None:
        """Refuse a corpus that this task cannot use, before any work.

        Raises:
            CorpusError: saying which variable or row is wrong.
        """
        missing = {"input", "target"} - set(corpus.data_vars)
        if missing:
            raise CorpusError(
                f"{type(self).__name__} needs the variables {sorted(missing)}; see inflab.adapters.from_arrays"
            )


def logits_of(model: nn.Module, outputs: Any) -> Tensor:
    """The logits among a model's outputs.

    Returns:
        `outputs.logits`, or the outputs themselves when they are a tensor.

    Raises:
        ModelError: when they are neither.
    """
    found = getattr(outputs, "logits", outputs)
    if not isinstance(found, Tensor):
        raise ModelError(
            f"{type(model).__name__} returned a {type(found).__name__}; return a tensor or an object with `logits`, "
            "or override `forward` in a subclass of the task"
        )
    return found


def draw_class(logits_nv: Tensor, uniform_n: Tensor) -> Tensor:
    """One class a row from softmax(logits), by inverse transform of given uniform numbers."""
    # Exponentials in the logits' own precision, their long sums in float64.
    cdf = at_least_float32(logits_nv.detach()).softmax(-1).cumsum(-1, dtype=torch.float64)
    drawn = torch.searchsorted(cdf, (uniform_n * cdf[:, -1]).unsqueeze(-1), right=True).squeeze(-1)
    return drawn.clamp(max=logits_nv.shape[-1] - 1)


def margin(logits_nv: Tensor, label_n: Tensor) -> Tensor:
    """`log(p / (1 - p))` of the label in each row."""
    correct = logits_nv.gather(-1, label_n.unsqueeze(-1))
    others = logits_nv.scatter(-1, label_n.unsqueeze(-1), -torch.inf)
    return correct.squeeze(-1) - others.logsumexp(-1)


def at_least_float32(value: Tensor) -> Tensor:
    """The same numbers in float32, or float64 when they are."""
    return value if value.dtype == torch.float64 else value.float()


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a setting that is not one of the choices."""
    if value not in choices:
        raise SettingError(f"{name}={value!r} is not one of {', '.join(map(repr, choices))}")


def refuse(ids: np.ndarray, is_bad: Any, dim: str, what: str, mend: str) -> None:
    """Refuse a corpus in which some rows are bad, naming their ids and the mend."""
    if is_bad.any():
        bad = ids[is_bad]
        more = "" if len(bad) <= 5 else f" and {len(bad) - 5} more"
        raise CorpusError(f"{dim} {', '.join(map(str, bad[:5]))}{more}: {what}; {mend}")
