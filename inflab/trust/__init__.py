"""How far an answer can be trusted: intervals, stability, a lexical baseline, and the effect that was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from inflab.effects import effect_attrs, predicts
from inflab.errors import SettingError, check_count, is_finite_number
from inflab.schema import root_attrs, variable_attrs
from inflab.select import top
from inflab.tasks import Task
from inflab.trust.beside import lexical_agreement, removed
from inflab.trust.fits import Fits, Moves, moves
from inflab.trust.words import sentences

if TYPE_CHECKING:
    from inflab.problem import Problem
    from inflab.truth.recipe import Recipe

__all__ = ["trust", "Task"]


def trust(
    influence: Any,
    queries: xr.Dataset,
    *,
    k: int = 10,
    seeds: int = 3,
    splits: int = 2,
    recipe: Recipe | None = None,
    trainings: int = 3,
    lexical: bool = True,
    level: float = 0.95,
    seed: int = 0,
    memory: int | str | None = None,
    batch_size: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """The report of `inflab.Influence.trust`, with its arguments.

    Returns:
        Arrays over fits, queries and ranks, and a sentence for each query.

    Raises:
        SettingError: when a setting is outside its domain.
    """
    problem = influence.problem
    n_train = problem.corpus.sizes["train"]
    check_count("k", k)
    if k > n_train:
        raise SettingError(f"k={k} must lie between 1 and the number of training sequences, {n_train}")
    check_count("seeds", seeds, "1 for the given fit alone")
    check_count("splits", splits, "0 for none", least=0)
    check_count("trainings", trainings)
    check_count("seed", seed, least=0)
    if not is_finite_number(level) or not 0 < level < 1:
        raise SettingError(f"level={level!r} must be a number between 0 and 1")
    if splits and n_train < 2:
        raise SettingError(f"splits={splits} needs at least 2 training sequences; use splits=0")
    if recipe is not None:
        _check_recipe(recipe, problem)
    if seeds > 1 or splits:
        influence.method  # noqa: B018 - what has none cannot be fitted again: it fails here, before the work

    running = {"memory": memory, "batch_size": batch_size, "progress": progress}
    given = influence.score(queries, **running)
    given.attrs.setdefault("measurement", problem.task.measures)
    if recipe is not None and not predicts(given):
        raise SettingError(f"recipe: scores of {given.attrs['method']} predict no change that could be measured")
    best = top(given, k)
    found = moves(influence, queries, given, best, Fits(int(seeds), int(splits), int(seed), running))
    own = {"k": int(k), "level": float(level), "seeds": int(seeds), "splits": int(splits)}
    report = xr.Dataset(
        {"is_ranked": best["is_ranked"], **_of_fits(found, given, best, float(level))},
        coords={"fit": found.names, **best.coords, "fit_source": ("fit", found.source)},
        attrs={**given.attrs, **root_attrs("trust", **own)},
    )
    if lexical:
        report = report.assign(lexical_agreement(given, best, queries, problem.corpus, progress))
    if predicts(given):
        train = problem.corpus
        report = report.assign(removed(given, best, queries, train, recipe, int(trainings), int(seed), progress))
    about = variable_attrs("sentence", "1", "the report in words")
    return report.assign(sentence=("query", np.array(sentences(report), dtype=object), about))


def _of_fits(found: Moves, given: xr.Dataset, best: xr.Dataset, level: float) -> dict[str, Any]:
    """What the fits say, as labelled arrays."""
    pairs, each = ("query", "rank"), ("fit", "query")
    unit = str(given["influence"].attrs["units"])
    width_qr, stability_q, agreement_q = found.width(level), *_means(found)
    of_labels, of_data = "standard deviation over label seeds", "standard deviation by half-sample replication"
    interval = f"{level:.0%} interval, the wider of those over label seeds and over halves of the data"
    arrays: dict[str, Any] = {
        "influence": (("fit", *pairs), found.influence, best["influence"].attrs),
        "low": (pairs, found.influence[0] - width_qr, variable_attrs("low", unit, f"lower end of the {interval}")),
        "high": (pairs, found.influence[0] + width_qr, variable_attrs("high", unit, f"upper end of the {interval}")),
        "label_spread": (pairs, found.label_spread(), variable_attrs("spread over labels", unit, of_labels)),
        "data_spread": (pairs, found.data_spread(), variable_attrs("spread over the data", unit, of_data)),
        "overlap": (each, found.overlap, variable_attrs("overlap", "1", "share of the list that the fit lists too")),
        "rank_correlation": (
            each,
            found.rank_correlation,
            variable_attrs("rank correlation", "1", "Spearman's, of all scores of the fit with the given ones"),
        ),
        "is_moved": ("fit", found.is_moved, variable_attrs("is moved", "1", "whether any score of the fit differs")),
        "stability": (
            "query",
            stability_q,
            variable_attrs("stability", "1", "mean overlap with the other fits, those that differ in anything"),
        ),
        "agreement": (
            "query",
            agreement_q,
            variable_attrs(
                "agreement", "1", "mean rank correlation with the other fits, those that differ in anything"
            ),
        ),
    }
    if not predicts(given):
        return arrays
    n_train = int(given.attrs["n_train"])
    for name, of in (("effect", "influence"), ("effect_low", "low"), ("effect_high", "high")):
        dims, value, attrs = arrays[of]
        about = effect_attrs(given)
        arrays[name] = (dims, value / n_train, about if of == "influence" else {**about, **_ends(attrs)})
    return arrays


def _ends(attrs: dict[str, Any]) -> dict[str, Any]:
    return {"long_name": f"{attrs['long_name']} of the effect", "description": attrs["description"]}


def _means(found: Moves) -> tuple[np.ndarray, np.ndarray]:
    """Mean overlap and rank correlation of the fits that differ, of all others where none does; NaN without others."""
    others = np.arange(len(found.names)) > 0
    chosen = found.is_moved if found.is_moved.any() else others
    if not others.any():
        nothing = np.full(found.overlap.shape[1], np.nan)
        return nothing, nothing
    return found.overlap[chosen].mean(0), found.rank_correlation[chosen].mean(0)


def _check_recipe(recipe: Any, problem: Problem) -> None:
    task = getattr(recipe, "task", None)
    if task is None:
        raise SettingError(f"recipe is a {type(recipe).__name__}; give the inflab.truth.Recipe that trained the model")
    if type(task) is not type(problem.task) or repr(task) != repr(problem.task):
        raise SettingError(f"recipe has the task {task!r}, the problem {problem.task!r}; what they measure must agree")
