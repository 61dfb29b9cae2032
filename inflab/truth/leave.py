"""Leave groups of examples out, train again, and see what the queries lose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab import labels
from inflab.corpus import fingerprint
from inflab.errors import CorpusError, SettingError, check_count
from inflab.schema import variable_attrs
from inflab.truth.bank import draw_seeds, kept, root
from inflab.truth.material import Material, Trial

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["leave_out"]


def leave_out(
    recipe: Recipe,
    corpus: xr.Dataset,
    queries: xr.Dataset,
    groups: xr.DataArray | Sequence[Sequence[Any]],
    *,
    seeds: int = 3,
    seed: int = 0,
    store: str | Path | None = None,
    at_once: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Train without each of some groups of examples, and on everything, with the same seeds.

    Args:
        recipe: how models are trained.
        corpus: over `train`.
        queries: over `query`.
        groups: what is left out: bool `(group, train)`, True where an example is left out, or lists of ids of `train`;
            groups may differ in size.
        seeds: trainings of each group, and on everything; the examples that are left keep their order.
        seed: of the trainings' seeds.
        store: where finished trainings are kept, so that a run that was broken off goes on when it is called again.
        at_once: models trained together; from their size when None.
        progress: show a bar over trainings.

    Returns:
        `measurement (group, seed, query)`, `baseline (seed, query)` after training on everything, `change (group,
        query)`, the mean over seeds of what leaving the group out adds to the measurement, and its standard error
        `change_se` (NaN for one seed), all in nat; `is_left_out (group, train)`.

    Raises:
        SettingError: when a setting is outside its domain.
        CorpusError: when a corpus does not fit the recipe, or a group names an id that is not there, or everything.
        ModelError: when the recipe makes no model.
        NumericsError: when a training diverges; says the step and the examples.
        StoreError: the store holds something else, is being written by another process, or cannot be written.

    Example:
        >>> first_two = table["train"].values[:2]
        >>> found = inflab.truth.leave_out(recipe, table, asked, [first_two], seeds=2)
        >>> dict(found["change"].sizes)
        {'group': 1, 'query': 5}
    """
    check_count("seeds", seeds)
    check_count("seed", seed, least=0)
    material = Material(recipe, corpus, queries)
    names, is_left_out = _left_out(groups, corpus)
    of_trainings = draw_seeds(seed, seeds)
    rows = [np.arange(material.n), *(np.flatnonzero(~left_out) for left_out in is_left_out)]
    trials = [Trial(positions, each) for positions in rows for each in of_trainings]

    def assemble(found: np.ndarray) -> xr.Dataset:
        measurement = found.reshape(len(rows), seeds, -1)
        difference = measurement[1:].astype(np.float64) - measurement[0]
        spread = difference.std(1, ddof=1) if seeds > 1 else np.full(difference[:, 0].shape, np.nan)
        values = {
            "measurement": (
                ("group", "seed", "query"),
                measurement[1:],
                variable_attrs("measurement", "nat", "measurement of each query after training without each group"),
            ),
            "baseline": (
                ("seed", "query"),
                measurement[0],
                variable_attrs("baseline", "nat", "measurement of each query after training on everything"),
            ),
            "change": (
                ("group", "query"),
                difference.mean(1),
                variable_attrs("measured change", "nat", "mean over seeds of measurement - baseline"),
            ),
            "change_se": (
                ("group", "query"),
                spread / np.sqrt(seeds),
                variable_attrs("standard error of the change", "nat", "of the mean over seeds"),
            ),
            "is_left_out": (
                ("group", "train"),
                is_left_out,
                variable_attrs("is left out", "1", "True where the example is not trained on"),
            ),
        }
        coords = {
            "group": names,
            "seed": np.array(of_trainings),
            **labels.train_coords(corpus),
            **labels.query_coords(queries),
        }
        return xr.Dataset(values, coords=coords, attrs=root("left_out", material, seed=int(seed)))

    asked = {"seed": int(seed), "seeds": seeds, "groups": fingerprint(_as_corpus(names, is_left_out))}
    return kept(material, trials, assemble, "leave_out", asked, store=store, at_once=at_once, progress=progress)


def _left_out(groups: Any, corpus: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Names of the groups, and `(group, train)` bool in the corpus' order."""
    ids = corpus["train"].to_numpy()
    if isinstance(groups, xr.DataArray):
        if set(groups.dims) != {"group", "train"} or groups.dtype != bool:
            raise SettingError(
                f"groups has dims {groups.dims} and dtype {groups.dtype}; give bool (group, train), or lists of ids"
            )
        given = groups.transpose("group", "train")
        columns = given["train"].to_numpy() if "train" in given.coords else ids
        if len(columns) != given.sizes["train"]:
            raise SettingError(f"groups has {given.sizes['train']} columns and no ids; the corpus has {len(ids)}")
        place = _positions(columns, ids)
        is_left_out = np.zeros((given.sizes["group"], len(ids)), bool)
        is_left_out[:, place] = given.to_numpy()
        names = given["group"].to_numpy() if "group" in given.coords else np.arange(len(is_left_out))
    else:
        if isinstance(groups, str) or any(isinstance(group, str) or not hasattr(group, "__len__") for group in groups):
            raise SettingError("groups must be lists of train ids, one list a group: [[3], [5, 8]]")
        is_left_out = np.zeros((len(groups), len(ids)), bool)
        for row, group in zip(is_left_out, groups, strict=True):
            row[_positions(np.asarray(group), ids)] = True
        names = np.arange(len(groups))
    if len(is_left_out) == 0:
        raise SettingError("groups is empty; give at least one group of train ids")
    if is_left_out.all(1).any():
        raise CorpusError(
            f"group {names[is_left_out.all(1)].tolist()[0]!r} leaves everything out; nothing is left to train on"
        )
    return names, is_left_out


def _positions(wanted: np.ndarray, ids: np.ndarray) -> np.ndarray:
    found = pd.Index(ids.tolist(), dtype=object).get_indexer(pd.Index(wanted.tolist(), dtype=object))
    if (found < 0).any():
        raise CorpusError(f"groups names train {wanted[found < 0].tolist()[0]!r}, which is not in the corpus")
    return np.asarray(found)


def _as_corpus(names: np.ndarray, is_left_out: np.ndarray) -> xr.Dataset:
    """Groups in a form that has a fingerprint."""
    return xr.Dataset({"is_left_out": (("train", "column"), is_left_out)}, coords={"train": names})
