"""The engine of retraining: many trainings of one recipe, and what each measures on the queries.

Trainings of equal length go together where that pays (`inflab.truth.stacked`), the others one after the other. Their
numbers agree to rounding; how many go together decides nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import nn

from inflab.errors import NumericsError, check_count
from inflab.progress import progress_bar
from inflab.truth import stacked, updates
from inflab.truth.material import Material, Trial, fresh, not_finite, own_surroundings

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["all_measured", "groups", "measure_after", "measured", "train_one"]


def train_one(
    material: Material, model: nn.Module, trial: Trial, note: Callable[[int, float], None] | None = None
) -> None:
    """Train a fresh model in place.

    Args:
        material: recipe and data.
        model: of `fresh`, with the trial's seed.
        trial: rows, order and weights.
        note: called after each step with its number and its loss.

    Raises:
        not_finite: a `NumericsError`, when the loss is no longer finite; says the step and the examples.
    """
    recipe, task = material.recipe, material.recipe.task
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer, rates = updates.optimizer(recipe, parameters), material.rates(trial)
    order, weights = torch.from_numpy(material.order(trial)).to(material.device), material.weights([trial])
    for step, (epoch, columns) in enumerate(material.slices(trial)):
        index = order[epoch, columns]
        given = material.train.take(index)
        loss_b = task.loss(task.forward(model, given), given)
        loss = loss_b.mean() if weights is None else (loss_b * weights[0, index]).mean()
        value = loss.item()
        if not math.isfinite(value):
            raise not_finite(material, value, step, index)
        loss.backward()
        if recipe.clip is not None:
            nn.utils.clip_grad_norm_(parameters, recipe.clip)
        for group in optimizer.param_groups:
            group["lr"] = float(rates[step])
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if note is not None:
            note(step, value)


def groups(material: Material, trials: Sequence[Trial], at_once: int | None = None) -> list[list[int]]:
    """Which trainings go together: those of equal length, so many that their weights stay in a processor's caches."""
    if at_once is not None:
        check_count("at_once", at_once, "None for what the memory holds")
    by_size: dict[tuple[int, bool], list[int]] = {}
    for number, trial in enumerate(trials):
        by_size.setdefault((len(trial.rows), trial.weights is None), []).append(number)
    size = stacked.how_many(material, max(map(len, by_size.values()), default=0), at_once)
    return [same[at : at + size] for same in by_size.values() for at in range(0, len(same), size)]


def measured(material: Material, trials: Sequence[Trial]) -> np.ndarray:
    """Train on one group of trials, and measure the queries after each.

    Returns:
        `(trial, query)`, in the model's dtype.

    Raises:
        NumericsError: when a loss or a measurement is no longer finite.
    """
    found = stacked.measured(material, trials) if len(trials) > 1 else _measured_alone(material, trials[0])
    if not np.isfinite(found).all():
        assert material.asked is not None
        bad = material.asked.ids[~np.isfinite(found).all(0)].tolist()
        raise NumericsError(f"the measurement of query {bad[0]!r} is not finite after training; lower learning_rate")
    return found


def measure_after(
    recipe: Recipe,
    corpus: xr.Dataset,
    queries: xr.Dataset,
    rows_of: Sequence[np.ndarray],
    seeds: Sequence[int],
    *,
    at_once: int | None = None,
    progress: bool = True,
) -> np.ndarray:
    """What the queries measure after training on each of some sets of examples.

    Args:
        recipe: how models are trained.
        corpus: over `train`.
        queries: over `query`.
        rows_of: positions in `train` of each set.
        seeds: of the trainings on each set.
        at_once: trainings that go together, or None.
        progress: show a bar over trainings.

    Returns:
        `(set, seed, query)`, in nat, in the model's dtype.
    """
    material = Material(recipe, corpus, queries)
    trials = [Trial(np.sort(np.asarray(rows)), int(seed)) for rows in rows_of for seed in seeds]
    found = all_measured(material, trials, at_once=at_once, progress=progress)
    return found.reshape(len(rows_of), len(seeds), -1)


def all_measured(
    material: Material, trials: Sequence[Trial], *, at_once: int | None = None, progress: bool = True
) -> np.ndarray:
    """`measured` for any number of trials, `(trial, query)`."""
    found = np.empty((len(trials), material.n_query), material.dtype)
    with progress_bar(len(trials), "trainings", "training", shown=progress) as bar:
        for group in groups(material, trials, at_once):
            found[group] = measured(material, [trials[number] for number in group])
            bar.update(len(group))
    return found


def _measured_alone(material: Material, trial: Trial) -> np.ndarray:
    task = material.recipe.task
    with own_surroundings(trial.seed):
        model = fresh(material.recipe, trial.seed)
        train_one(material, model, trial)
        model.eval()
        with torch.no_grad():
            parts = [
                task.measure(outputs, given)
                for _, outputs, given in material.measure(lambda given: task.forward(model, given))
            ]
    found: np.ndarray = torch.cat(parts).cpu().numpy()
    return found[None]
