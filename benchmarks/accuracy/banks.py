"""Retrained models: what the queries measure after training on random halves of the data, and the methods' guesses.

A bank is large to make and small to keep: 100 random halves times several seeds, of which only the queries'
measurements stay. `scores` makes the guesses of every method from models trained on everything.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from tqdm.auto import tqdm

import inflab
from benchmarks.accuracy.cases import Case, case
from inflab import truth
from inflab.combined import ensemble

__all__ = ["BANKS", "DATA", "bank_of", "build", "deterministic", "members", "scores"]

DATA = Path(__file__).resolve().parents[2] / "notebooks" / "findings" / "data"

#: Case -> how its bank is made.
BANKS: dict[str, dict[str, Any]] = {
    "concrete": {"subsets": 100, "seeds": 5},
    "digits": {"subsets": 100, "seeds": 5},
    "genesis": {"subsets": 100, "seeds": 3},
}
#: The bank whose training is one fixed trajectory: members keep their weight, the others get none.
FIXED = {"subsets": 100, "seeds": 1, "fraction": 0.95, "by": "weight"}

#: Absolute damping of the methods that solve for all layers jointly, from an earlier measurement on the first case with
#: another bank.
JOINT = 0.01


def build(name: str, folder: Path = DATA, work: Path | None = None) -> None:
    """Make a bank anew, going on where a run was broken off.

    Args:
        name: of the case; "concrete-fixed" is the deterministic one.
        folder: gets `bank-<name>.zarr`.
        work: where the unfinished bank lies; beside the result when None.
    """
    settings = FIXED if name.endswith("-fixed") else BANKS[name]
    chosen = case(name.removesuffix("-fixed"))
    store = (folder if work is None else work) / f"unfinished-{name}"
    bank = truth.retrain_bank(chosen.recipe, chosen.corpus, chosen.queries, store=store, **settings)
    target = folder / f"bank-{name}.zarr"
    shutil.rmtree(target, ignore_errors=True)
    inflab.save(slim(bank), target)
    shutil.rmtree(store)


def slim(bank: xr.Dataset) -> xr.Dataset:
    """A bank without what the corpora hold anyway: texts and other coordinates of sequences."""
    found = bank.drop_vars([
        name for name, c in bank.coords.items() if c.dims in (("train",), ("query",)) and name not in bank.dims
    ])
    return found.load()


def bank_of(name: str, folder: Path = DATA) -> xr.Dataset:
    """The bank that ships with the repository."""
    found = inflab.load(folder / f"bank-{name}.zarr")
    assert isinstance(found, xr.Dataset)
    return found


def members(chosen: Case, count: int, *, keep: int = 6) -> list[inflab.Problem]:
    """Models trained on everything, one a seed, as problems with checkpoints; seeds that no bank used."""
    found = []
    for seed in range(count):
        trained = chosen.recipe.train(chosen.corpus, seed=1000 + seed, keep=keep, progress=False)
        task = chosen.recipe.task
        found.append(inflab.Problem(trained.model, task, chosen.corpus, checkpoints=trained.checkpoints))
    return found


def methods(chosen: Case) -> dict[str, Any]:
    """Every method by its name, with the settings it is judged at."""
    at: dict[str, Any] = {"layers": chosen.layers, "damping": 0.1}
    found: dict[str, Any] = {
        "Identity": inflab.Identity(layers=chosen.layers),
        "Cosine": inflab.Cosine(layers=chosen.layers),
        "TracIn": inflab.TracIn(layers=chosen.layers),
        "Diagonal": inflab.Diagonal(**at),
        "KFAC": inflab.KFAC(**at),
        "EKFAC": inflab.EKFAC(**at),
        "SOURCE": inflab.SOURCE(layers=chosen.layers),
    }
    if chosen.kind == "text":
        return found | {"BM25": inflab.BM25(), "Embedding": inflab.Embedding()}
    # Solving exactly amplifies directions that retraining does not follow, the more the smaller lambda is: EK-FAC and
    # CG are swept side by side, the dearer ones get the middle. Each step takes every query through the network: on
    # the texts these would take most of an hour.
    for damping in (0.001, 0.01, 0.1):
        joint: dict[str, Any] = {"layers": chosen.layers, "damping": damping, "damping_kind": "absolute"}
        found[f"EKFAC, λ = {damping:g}"] = inflab.EKFAC(**joint)
        found[f"CG, λ = {damping:g}"] = inflab.CG(steps=20, **joint)
        if damping == JOINT:
            found |= {
                f"ASTRA, λ = {damping:g}": inflab.ASTRA(steps=100, **joint),
                f"LiSSA, λ = {damping:g}": inflab.LiSSA(steps=1000, **joint),
            }
    return found


def scores(chosen: Case, problems: list[inflab.Problem]) -> dict[str, xr.Dataset]:
    """What every method says of the case's queries.

    Args:
        chosen: the case.
        problems: the first is what single-model methods see; all of them make the ensembles.

    Returns:
        Method -> scores.
    """
    found: dict[str, xr.Dataset] = {}
    asked = methods(chosen)
    jobs = [*asked, *(f"{name} x {len(problems)}" for name in ("EKFAC", "SOURCE"))]
    for job in tqdm(jobs, desc=f"scores: {chosen.name}", unit="method"):
        name, *several = job.split(" x ")
        fitted = [asked[name].fit(problem, progress=False) for problem in (problems if several else problems[:1])]
        found[job] = (ensemble(fitted) if several else fitted[0]).score(chosen.queries, progress=False)
    return found


def deterministic(chosen: Case) -> Mapping[str, xr.Dataset]:
    """MAGIC and EK-FAC on the trajectory of the fixed bank."""
    bank = bank_of(f"{chosen.name}-fixed")
    seed = int(np.atleast_1d(bank["seed"])[0])
    trained = chosen.recipe.train(chosen.corpus, seed=seed, progress=False)
    problem = inflab.Problem(trained.model, chosen.recipe.task, chosen.corpus)
    ekfac = inflab.EKFAC(layers=chosen.layers).fit(problem, progress=False)
    return {
        "MAGIC": truth.magic(chosen.recipe, chosen.corpus, chosen.queries, seed=seed, progress=False),
        "EKFAC": ekfac.score(chosen.queries, progress=False),
    }
