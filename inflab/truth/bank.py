"""Retraining on many random subsets: what the linear datamodeling score is measured against (arXiv 2303.14186).

Training is noisy: the mean over several seeds is what an influence predicts, and the spread between seeds bounds how
well anything could predict it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

from inflab import labels, store
from inflab.corpus import fingerprint
from inflab.errors import SettingError, check_count, is_finite_number
from inflab.run.ledger import opened
from inflab.schema import SCHEMA_VERSION, root_attrs, variable_attrs
from inflab.truth.material import Material, Trial
from inflab.truth.training import all_measured, groups, measured

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["draw_seeds", "kept", "retrain_bank", "root"]


def retrain_bank(
    recipe: Recipe,
    corpus: xr.Dataset,
    queries: xr.Dataset,
    *,
    subsets: int = 100,
    fraction: float = 0.5,
    seeds: int = 3,
    by: Literal["subset", "weight"] = "subset",
    seed: int = 0,
    store: str | Path | None = None,
    at_once: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Train on random subsets of the corpus, several times each, and measure the queries after every training.

    Args:
        recipe: how models are trained.
        corpus: over `train`.
        queries: over `query`.
        subsets: how many subsets.
        fraction: of the corpus in each: `round(fraction * n)` examples, drawn without replacement.
        seeds: trainings on each subset; all subsets are trained with the same seeds.
        by: "subset" trains on the members alone; "weight" trains on everything in one fixed order, where members weigh
            1 in the loss and the others 0: the task that `magic` is exact for.
        seed: of the subsets and of the trainings' seeds; more subsets or seeds begin with the same ones.
        store: where finished trainings are kept, so that a bank that was broken off goes on when it is called again.
        at_once: models trained together; from their size when None. Numbers agree to rounding whatever it is.
        progress: show a bar over trainings.

    Returns:
        `measurement (subset, seed, query)`, nat, in the model's dtype, and `is_member (subset, train)`; the coordinates
        of both corpora, those of the queries with the prefix `query_`; the recipe as JSON text in attrs.

    Raises:
        SettingError: when a setting is outside its domain.
        CorpusError: when a corpus does not fit the recipe's task and model.
        ModelError: when the recipe makes no model.
        NumericsError: when a training diverges; says the step and the examples.
        StoreError: the store holds something else, is being written by another process, or cannot be written.

    Example:
        >>> bank = inflab.truth.retrain_bank(recipe, table, asked, subsets=4, seeds=2)
        >>> bank["measurement"].dims
        ('subset', 'seed', 'query')
        >>> bank["is_member"].sum("train").values
        array([22, 22, 22, 22])
    """
    for name, value in (("subsets", subsets), ("seeds", seeds)):
        check_count(name, value)
    check_count("seed", seed, least=0)
    if by not in ("subset", "weight"):
        raise SettingError(f"by={by!r} is not one of 'subset', 'weight'")
    if not is_finite_number(fraction) or not 0 < fraction < 1:
        raise SettingError(f"fraction={fraction!r} must lie between 0 and 1")
    material = Material(recipe, corpus, queries)
    size = round(fraction * material.n)
    if not 0 < size < material.n:
        raise SettingError(f"fraction={fraction!r} of {material.n} examples is {size}; leave some in and some out")
    draw = np.random.default_rng([0, seed])
    is_member = np.zeros((subsets, material.n), bool)
    for row in is_member:
        row[draw.permutation(material.n)[:size]] = True
    of_trainings = draw_seeds(seed, seeds)
    everything = np.arange(material.n)
    trials = [
        Trial(np.flatnonzero(row), each) if by == "subset" else Trial(everything, each, row.astype(np.float64))
        for row in is_member
        for each in of_trainings
    ]
    settings = {"by": by, "fraction": float(fraction), "seed": int(seed)}

    def assemble(found: np.ndarray) -> xr.Dataset:
        about = "measurement of each query after training on each subset with each seed"
        coords = {
            "subset": np.arange(subsets),
            "seed": np.array(of_trainings),
            **labels.train_coords(corpus),
            **labels.query_coords(queries),
        }
        values = {
            "measurement": (
                ("subset", "seed", "query"),
                found.reshape(subsets, seeds, -1),
                variable_attrs("measurement", "nat", about),
            ),
            "is_member": (
                ("subset", "train"),
                is_member,
                variable_attrs("is member", "1", "True where the example is in the subset"),
            ),
        }
        return xr.Dataset(values, coords=coords, attrs=root("bank", material, **settings))

    asked = {**settings, "subsets": subsets, "seeds": seeds}
    return kept(material, trials, assemble, "bank", asked, store=store, at_once=at_once, progress=progress)


def draw_seeds(seed: int, count: int) -> list[int]:
    """Seeds of trainings, different ones, drawn by a seed."""
    draw = np.random.default_rng([1, seed])
    found: dict[int, None] = {}
    while len(found) < count:
        found[int(draw.integers(2**31))] = None
    return list(found)


def root(kind: str, material: Material, **extra: Any) -> dict[str, Any]:
    """The attributes of what retraining measured."""
    assert material.queries is not None
    return root_attrs(
        kind,
        recipe=json.dumps(material.recipe.settings()),
        corpus_fingerprint=fingerprint(material.corpus),
        queries_fingerprint=fingerprint(material.queries),
        n_train=material.n,
        **extra,
    )


def kept(
    material: Material,
    trials: Sequence[Trial],
    assemble: Callable[[np.ndarray], xr.Dataset],
    what: str,
    asked: Mapping[str, Any],
    *,
    store: str | Path | None,
    at_once: int | None,
    progress: bool,
) -> xr.Dataset:
    """Run trainings, those that a store does not hold yet, and put their measurements together.

    Args:
        material: recipe and data.
        trials: in an order that `assemble` knows.
        assemble: makes the result of `(trial, query)` measurements.
        what: is kept: "bank", ...
        asked: what decides the result besides recipe and data; JSON values.
        store: where finished groups are kept, or None.
        at_once: trainings that go together, or None.
        progress: show a bar.

    Returns:
        The result.
    """
    if at_once is not None:
        check_count("at_once", at_once, "None for what the memory holds")
    if store is None:
        return assemble(all_measured(material, trials, at_once=at_once, progress=progress))
    assert material.queries is not None
    identity = {
        "what": what,
        "schema_version": SCHEMA_VERSION,
        "recipe": material.recipe.settings(),
        "corpus_fingerprint": fingerprint(material.corpus),
        "queries_fingerprint": fingerprint(material.queries),
        **asked,
        # What `inflab.load` says of a store that is under way: a training is a shard of it.
        "shards": len(trials),
        "shard_size": 1,
    }
    return _resumed(material, trials, assemble, identity, store, at_once, progress)


def _resumed(
    material: Material,
    trials: Sequence[Trial],
    assemble: Callable[[np.ndarray], xr.Dataset],
    identity: Mapping[str, Any],
    path: str | Path,
    at_once: int | None,
    progress: bool,
) -> xr.Dataset:
    found = np.empty((len(trials), material.n_query), material.dtype)
    is_done = np.zeros(len(trials), bool)
    n_bytes = 4 * found.nbytes + len(trials) * material.n
    with opened(path, identity, {}, n_bytes) as ledger:
        if not ledger.is_finished:
            for name in sorted(ledger.names()):
                part = ledger.read(name)
                if part is not None:  # a damaged part is one that is not there
                    found[part["trial"]], is_done[part["trial"]] = part["measurement"], True
            left = np.flatnonzero(~is_done)
            with tqdm(
                total=len(trials), initial=len(trials) - len(left), desc="trainings", disable=not progress, leave=False
            ) as bar:
                for group in groups(material, [trials[int(number)] for number in left], at_once):
                    numbers = left[group]
                    found[numbers] = measured(material, [trials[int(number)] for number in numbers])
                    # One file a group, there whole or not at all; its name is that of a training no other part holds.
                    ledger.keep(f"trainings.{numbers[0]}", {"trial": numbers, "measurement": found[numbers]})
                    bar.update(len(group))
            with ledger.writing():
                shutil.rmtree(ledger.arrays, ignore_errors=True)
                nodes = store.write_tree(xr.DataTree(assemble(found)), ledger.arrays)
            ledger.finish(nodes, len(trials))
        result: xr.Dataset = store.open_tree(ledger.path).to_dataset().load()  # small beside its corpus
    return result
