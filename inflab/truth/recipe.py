"""Recipe: how a model is trained, completely, so that it can be trained again on other data."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from torch import Tensor, nn
from tqdm.auto import tqdm

from inflab.errors import CorpusError, SettingError, check_count, is_finite_number
from inflab.problem import Checkpoint
from inflab.schema import variable_attrs
from inflab.tasks import Task
from inflab.truth import training
from inflab.truth.material import Material, Trial, fingerprint_of, fresh, own_surroundings

__all__ = ["Recipe", "Trained"]

_CHOICES = {"optimizer": ("sgd", "adam", "adamw"), "schedule": ("constant", "linear", "cosine")}


@dataclass(frozen=True)
class Trained:
    """What `Recipe.train` gives back.

    Args:
        model: in eval mode.
        checkpoints: states on the way, equally spaced, the last at the end; for `inflab.Problem(checkpoints=...)`.
        history: `loss (step)`, the mean over the batch's examples, in nat, and `learning_rate (step)`.
        seconds: wall time of the training loop.

    Example:
        >>> trained = recipe.train(table, keep=2)
        >>> trained.history["loss"].dims, trained.checkpoints[-1].steps > 0
        (('step',), True)
    """

    model: Any
    checkpoints: tuple[Checkpoint, ...]
    history: xr.Dataset
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained, completely: same recipe, rows, seed -> same weights on one machine.

    The loss of a batch is the mean over its examples of `task.loss`, which is a sum over tokens. The examples of an
    epoch come in an order drawn by the seed for the whole corpus; a training on part of it keeps the order of those
    that are left, so that trainings with one seed differ in nothing but their examples.

    Args:
        model: seed -> a fresh model in its initial state, float32 or float64. Torch's random numbers are seeded
            before it is called, and as they were afterwards. Parameters that need no gradient stay as they are.
        task: gives the loss.
        epochs: how many times each example is seen.
        batch_size: examples in a step; the last of an epoch may have fewer.
        learning_rate: at its highest.
        optimizer: "sgd", "adam" or "adamw" as in torch, with its betas of .9 and .999.
        momentum: of "sgd".
        weight_decay: on every parameter; a penalty for "sgd" and "adam", decoupled for "adamw".
        schedule: "constant", or to zero at the end: "linear", "cosine".
        warmup: steps until the learning rate is at its highest.
        clip: longest gradient, over all parameters; longer ones are shortened to it. None leaves them.

    Raises:
        SettingError: for a setting outside its domain.

    Example:
        >>> settings = {"epochs": 2, "batch_size": 8, "learning_rate": 0.1}
        >>> recipe = inflab.truth.Recipe(model=lambda seed: nn.Linear(13, 3), task=inflab.Classification(), **settings)
        >>> trained = recipe.train(table, keep=2)
        >>> len(trained.checkpoints)
        2
    """

    model: Callable[[int], nn.Module]
    task: Task
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.0
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: int = 0
    clip: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.model, nn.Module) or not callable(self.model):
            raise SettingError(
                f"model is a {type(self.model).__name__}; give a function of a seed that returns a fresh model, such "
                "as lambda seed: nn.Linear(8, 1)"
            )
        if not isinstance(self.task, Task):
            raise SettingError(
                f"task is a {type(self.task).__name__}; expected an inflab.Task such as inflab.CausalLM()"
            )
        for name in ("epochs", "batch_size"):
            check_count(name, getattr(self, name))
        check_count("warmup", self.warmup, least=0)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise SettingError(f"{name}={getattr(self, name)!r} is not one of {', '.join(map(repr, choices))}")
        if not is_finite_number(self.learning_rate) or self.learning_rate <= 0:
            raise SettingError(f"learning_rate={self.learning_rate!r} must be a positive number")
        if not is_finite_number(self.weight_decay) or self.weight_decay < 0:
            raise SettingError(f"weight_decay={self.weight_decay!r} must be a number of at least 0")
        if not is_finite_number(self.momentum) or not 0 <= self.momentum < 1:
            raise SettingError(f"momentum={self.momentum!r} must be a number from 0 to below 1")
        if self.momentum and self.optimizer != "sgd":
            raise SettingError(f"momentum={self.momentum!r} belongs to optimizer='sgd'; {self.optimizer!r} has its own")
        if self.clip is not None and (not is_finite_number(self.clip) or self.clip <= 0):
            raise SettingError(f"clip={self.clip!r} must be a positive number, or None")

    def settings(self) -> dict[str, Any]:
        """Everything that decides the weights besides rows and seed, as JSON values.

        The model is told by the function's name, by its printed modules and by the fingerprint of the one it makes
        for seed 0.

        Returns:
            A new dict.
        """
        plain = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in plain.items()}
        first = fresh(self, 0)
        task: Any = self.task
        return plain | {
            "model": _name_of(self.model),
            "model_modules": hashlib.sha256(repr(first).encode()).hexdigest()[:16],
            "model_fingerprint": fingerprint_of(first),
            "task": repr(task) if dataclasses.is_dataclass(task) else type(task).__qualname__,
        }

    def train(
        self,
        corpus: xr.Dataset,
        *,
        rows: Sequence[int] | np.ndarray | None = None,
        seed: int = 0,
        keep: int = 0,
        progress: bool = True,
    ) -> Trained:
        """Train one model.

        Args:
            corpus: over `train`.
            rows: positions of the examples to train on; None takes all.
            seed: of the initial weights and the order.
            keep: how many checkpoints to keep.
            progress: show a bar.

        Returns:
            The model in eval mode, its checkpoints, its loss by step, and the seconds it took.

        Raises:
            SettingError: when `rows`, `seed` or `keep` is outside its domain.
            CorpusError: when the corpus does not fit task and model.
            ModelError: when `model` does not give a model.
            NumericsError: when the loss is no longer finite; says the step and the examples.
        """
        check_count("seed", seed, least=0)
        check_count("keep", keep, least=0)
        material = Material(self, corpus)
        trial = Trial(checked_rows(rows, material.n), int(seed))
        rates = material.rates(trial)
        ends = np.ceil(len(rates) * np.arange(1, keep + 1) / max(keep, 1)).astype(int)
        if keep > len(rates):
            raise SettingError(f"keep={keep} is more than the {len(rates)} steps of this training")
        checkpoints: list[Checkpoint] = []
        losses = np.zeros(len(rates))
        with (
            own_surroundings(seed),
            tqdm(total=len(rates), desc="training", disable=not progress, leave=False, unit="step") as bar,
        ):
            model = fresh(self, seed)

            def note(step: int, loss: float) -> None:
                losses[step] = loss
                bar.update()
                if step + 1 in ends:
                    past = ends[len(checkpoints) - 1] if checkpoints else 0
                    segment = rates[past : step + 1]
                    checkpoints.append(Checkpoint(_state(model), float(segment.mean()), len(segment)))

            began = time.perf_counter()
            training.train_one(material, model, trial, note)
            seconds = time.perf_counter() - began
        return Trained(model.eval(), tuple(checkpoints), _history(losses, rates), seconds)


def checked_rows(rows: Sequence[int] | np.ndarray | None, n: int) -> np.ndarray:
    """Rows as positions.

    Returns:
        Positions in ascending order.

    Raises:
        SettingError: when they are no positions of `n` examples, or one comes twice.
        CorpusError: when there is none.
    """
    if rows is None:
        return np.arange(n)
    found = np.asarray(rows)
    if found.ndim != 1 or (len(found) and not np.issubdtype(found.dtype, np.integer)):
        raise SettingError(f"rows has shape {found.shape} and dtype {found.dtype}; give a list of positions in train")
    if len(found) == 0:
        raise CorpusError("rows is empty; give at least one position in train")
    if found.min() < 0 or found.max() >= n:
        raise SettingError(f"rows goes from {found.min()} to {found.max()}; positions lie between 0 and {n - 1}")
    if len(np.unique(found)) < len(found):
        raise SettingError("rows holds a position twice; each example is there once or not at all")
    return np.sort(found)


def _name_of(function: Any) -> str:
    """The name of a function, also of one with some arguments given."""
    inner = getattr(function, "func", function)
    return str(getattr(inner, "__qualname__", type(inner).__qualname__))


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _history(losses: np.ndarray, rates: np.ndarray) -> xr.Dataset:
    about_loss = variable_attrs("training loss", "nat", "mean over the batch's examples of their loss")
    about_rate = variable_attrs("learning rate", "1", "of the optimiser at this step")
    return xr.Dataset(
        {"loss": ("step", losses, about_loss), "learning_rate": ("step", rates, about_rate)},
        coords={"step": np.arange(len(losses))},
    )
