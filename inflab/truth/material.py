"""What trainings of one recipe share: the data beside the model, the order of examples, fresh models."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from inflab.corpus import batch as corpus_batch
from inflab.corpus import corpus_dim
from inflab.device import model_device, to_tensor
from inflab.errors import ModelError, NumericsError
from inflab.problem import Problem
from inflab.tasks import Batch
from inflab.truth import updates

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["Material", "Rows", "Trial", "fingerprint_of", "fresh", "not_finite", "own_surroundings"]

_QUERIES = 128  # measured at a time, fewer where their texts have more tokens than this together:
_TOKENS = 4096


@dataclass(frozen=True)
class Trial:
    """One training: on which examples, in which order, with which weights.

    Attributes:
        rows: positions in the corpus, ascending.
        seed: of the initial weights and the order.
        weights: of every example of the corpus in the loss, `(train,)`; None weighs all alike.
    """

    rows: np.ndarray
    seed: int
    weights: np.ndarray | None = None


class Rows:
    """A corpus as tensors beside the model, texts from the first column on.

    Args:
        corpus: over `train` or `query`.
        device: where the model is.
        floats: dtype of the model's numbers.
    """

    def __init__(self, corpus: xr.Dataset, device: torch.device, floats: torch.dtype) -> None:
        dim = corpus_dim(corpus)
        self.ids = corpus[dim].to_numpy()
        arrays = corpus_batch(corpus, np.arange(len(self.ids)))
        self._tensors = {name: to_tensor(value, device, floats) for name, value in arrays.items()}
        self._texts = {n for n in arrays if "is_text" in arrays and set(corpus[n].dims) == {dim, "token"}}
        lengths = self._tensors["is_text"].sum(1) if self._texts else torch.zeros(1)
        # Texts of one length are never cut, so nothing need be asked of the device.
        self._lengths = None if int(lengths.min()) == int(lengths.max()) else lengths

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def width(self) -> int:
        """Tokens of the longest text; 1 without texts."""
        return self._tensors["is_text"].shape[1] if self._texts else 1

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Rows `index`, of any shape, cut after the longest text among them."""
        found = {name: value[index] for name, value in self._tensors.items()}
        if self._lengths is None:
            return found
        longest = int(self._lengths[index].max())
        return {n: v.narrow(index.ndim, 0, longest) if n in self._texts else v for n, v in found.items()}


class Material:
    """A recipe with its data beside the model, checked.

    Args:
        recipe: how models are trained.
        corpus: over `train`.
        queries: over `query`, or None.

    Raises:
        CorpusError: when a corpus does not fit task and model.
        ModelError: when the recipe makes no model, or one without parameters to train.
    """

    def __init__(self, recipe: Recipe, corpus: xr.Dataset, queries: xr.Dataset | None = None) -> None:
        self.recipe, self.corpus, self.queries = recipe, corpus, queries
        self.model = fresh(recipe, 0)
        problem = Problem(self.model, recipe.task, corpus)
        if queries is not None:
            problem.check_corpus(queries, "query")
        self.model.eval()
        problem.check_model()
        self.is_random = _is_random(problem)
        floats = [p for p in self.model.parameters() if p.is_floating_point() and p.requires_grad]
        if not floats:
            raise ModelError(f"{type(self.model).__name__} has no parameter that needs a gradient; nothing to train")
        self.device, self.floats = model_device(self.model), floats[0].dtype
        self.n_parameters = sum(p.numel() for p in floats)
        self.train = Rows(corpus, self.device, self.floats)
        self.asked = None if queries is None else Rows(queries, self.device, self.floats)
        self._permutations = lru_cache(maxsize=8)(self._draw)

    @property
    def n(self) -> int:
        """Examples of the corpus."""
        return len(self.train)

    @property
    def n_query(self) -> int:
        """How many queries there are."""
        return 0 if self.asked is None else len(self.asked)

    @property
    def dtype(self) -> np.dtype:
        """Of measurements: float64 for a float64 model, else float32."""
        return np.dtype(np.float64 if self.floats == torch.float64 else np.float32)

    def order(self, trial: Trial) -> np.ndarray:
        """In which order a training sees its examples, `(epoch, example)`: the whole corpus' order, less the others."""
        drawn = self._permutations(trial.seed)
        if len(trial.rows) == self.n:
            return drawn
        is_there = np.zeros(self.n, bool)
        is_there[trial.rows] = True
        found: np.ndarray = drawn[is_there[drawn]].reshape(len(drawn), -1)
        return found

    def slices(self, trial: Trial) -> list[tuple[int, slice]]:
        """Epoch and columns of `order` of each step."""
        size, count = self.recipe.batch_size, len(trial.rows)
        return [(e, slice(at, at + size)) for e in range(self.recipe.epochs) for at in range(0, count, size)]

    def rates(self, trial: Trial) -> np.ndarray:
        """The learning rate of each step."""
        return updates.rates(self.recipe, self.recipe.epochs * math.ceil(len(trial.rows) / self.recipe.batch_size))

    def weights(self, trials: Sequence[Trial]) -> Tensor | None:
        """Weights of several trainings, `(trial, train)`; None where none has any."""
        if trials[0].weights is None:
            return None
        return to_tensor(np.stack([trial.weights for trial in trials]), self.device, self.floats)  # type: ignore[misc]

    def measure(self, outputs_of: Callable[[Batch], Tensor]) -> Iterator[tuple[slice, Tensor, Batch]]:
        """Outputs for the queries, some at a time.

        Yields:
            Which queries, what `outputs_of` made of them, and their batch.
        """
        assert self.asked is not None
        size = max(1, min(_QUERIES, _TOKENS // self.asked.width))
        for start in range(0, self.n_query, size):
            place = slice(start, min(start + size, self.n_query))
            given = self.asked.take(torch.arange(place.start, place.stop, device=self.device))
            yield place, outputs_of(given), given

    def _draw(self, seed: int) -> np.ndarray:
        draw = np.random.default_rng(seed)
        return np.stack([draw.permutation(self.n) for _ in range(self.recipe.epochs)])


class _Bare(Problem):
    """A model whose fingerprint is asked for, without data."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def fingerprint_of(model: nn.Module) -> str:
    """SHA-256 of a model's state, as `Problem.model_fingerprint`."""
    return _Bare(model).model_fingerprint()


def fresh(recipe: Recipe, seed: int) -> nn.Module:
    """A model in its initial state, in `train()` mode; the caller may change it.

    Returns:
        The model.

    Raises:
        ModelError: when the recipe gives something else.
    """
    with own_surroundings(seed):
        made = recipe.model(seed)
        if not isinstance(made, nn.Module):
            raise ModelError(
                f"the recipe's model gave a {type(made).__name__} for seed {seed}; return a torch.nn.Module"
            )
        return copy.deepcopy(made).train()


@contextmanager
def own_surroundings(seed: int) -> Iterator[None]:
    """Gradients on, and torch's random numbers seeded; all as before afterwards."""
    devices = list(range(torch.cuda.device_count()))
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def not_finite(material: Material, value: float, step: int, index: Tensor) -> NumericsError:
    """The error of a training that diverged."""
    ids = material.train.ids[index.cpu().numpy()]
    some = ", ".join(map(str, ids[:5])) + (f" and {len(ids) - 5} more" if len(ids) > 5 else "")
    return NumericsError(
        f"loss is {value} at step {step} on train {some}; lower learning_rate={material.recipe.learning_rate}"
    )


def _is_random(problem: Problem) -> bool:
    """Whether training draws random numbers or keeps statistics of its batches: such models train one by one."""
    problem.model.train()
    try:
        problem.check_model()
    except ModelError:
        return True
    finally:
        problem.model.eval()
    return False
