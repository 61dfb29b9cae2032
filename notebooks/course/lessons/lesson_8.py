"""Lesson 8: does it work? A bank of retrained models, what methods predict of it, and how a claim is read."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import rankdata

from lessons.checking import check, predict

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))  # the cases are shared with the scripts that made the bank

import inflab  # noqa: E402
from benchmarks.accuracy import banks  # noqa: E402
from benchmarks.accuracy.cases import case  # noqa: E402

__all__ = [
    "agreement", "ask_ceiling", "ask_claim", "ask_exact", "ask_subsets", "bank", "by_subsets", "check_bootstrap",
    "check_ceiling", "check_lds", "check_predicted", "scores",
]  # fmt: skip

METHODS = ("EKFAC", "KFAC", "Diagonal", "Identity", "Cosine")


@lru_cache(maxsize=1)
def bank() -> xr.Dataset:
    """100 random halves of the Concrete data, each trained 5 times: what 100 held-out queries measured."""
    return banks.bank_of("concrete").load()


def agreement(name: str) -> xr.Dataset:
    """What `inflab.lds` found for every method of a task; computed before, an hour or two."""
    return inflab.load(banks.DATA / f"agreement-{name}.zarr").load()


@lru_cache(maxsize=4)
def scores(seed: int = 7) -> dict[str, xr.Dataset]:
    """Influence by five methods, of a model trained here on all of the data.

    Args:
        seed: of the training.

    Returns:
        Method -> `influence (query, train)`, in the bank's order of queries and training examples.
    """
    chosen = case("concrete")
    trained = chosen.recipe.train(chosen.corpus, seed=seed, progress=False)
    problem = inflab.Problem(trained.model, chosen.recipe.task, chosen.corpus)
    found = {}
    for name in METHODS:
        fitted = getattr(inflab, name)(layers=chosen.layers).fit(problem, progress=False)
        found[name] = fitted.score(chosen.queries, progress=False).sel(query=bank()["query"], train=bank()["train"])
    return found


def _predicted(member: np.ndarray, influence: np.ndarray) -> np.ndarray:
    return influence @ member.T.astype(float)


def _spearman(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of each row of a with the same row of b."""
    ranks = [rankdata(values, axis=1) for values in (a, b)]
    centred = [r - r.mean(1, keepdims=True) for r in ranks]
    lengths = [np.sqrt((c**2).sum(1)) for c in centred]
    return (centred[0] * centred[1]).sum(1) / (lengths[0] * lengths[1])


def _lds(predicted: np.ndarray, measured: np.ndarray) -> float:
    return float(_spearman(predicted, measured).mean())


def _bootstrap(values: np.ndarray, picks: np.ndarray) -> np.ndarray:
    return np.quantile(values[picks].mean(1), [0.025, 0.975])


def _ceiling(between: float, seeds: int) -> float:
    return float(np.sqrt(seeds * between / (1 + (seeds - 1) * between)))


def by_subsets(_x: np.ndarray, _y: np.ndarray, seeds: float) -> dict[str, Any]:
    """LDS of two methods by how many halves are used, with the measurements averaged over some seeds."""
    k = round(seeds)
    measured = bank()["measurement"].isel(seed=slice(k)).mean("seed").transpose("query", "subset").to_numpy()
    member = bank()["is_member"].to_numpy()
    counts = np.array([5, 10, 15, 20, 30, 40, 60, 80, 100])
    lines = {}
    for name in ("EKFAC", "Identity"):
        predicted = _predicted(member, scores()[name]["influence"].transpose("query", "train").to_numpy())
        lines[name] = (counts, np.array([_lds(predicted[:, :n], measured[:, :n]) for n in counts]))
    said = ", ".join(f"{name} {line[1][-1]:.2f}" for name, line in lines.items())
    return {"lines": lines, "words": f"measurements averaged over {k} trainings of each half: {said} with all halves"}


def _made(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    measured = rng.normal(size=(5, 12))
    return np.exp(measured + rng.normal(size=(5, 12))), measured


def check_predicted(answer: Any) -> Callable[..., Any]:
    """Predictions for the halves."""
    rng = np.random.default_rng(0)
    cases = [(rng.random((7, 9)) < 0.5, rng.normal(size=(4, 9))) for _ in range(2)]
    return check(
        "the prediction for a part of the data", answer, _predicted, cases,
        mistakes={
            "The other way round: queries are rows, parts are columns.": lambda m, i: m.astype(float) @ i.T,
            "That is the mean of the members' influences; sum them.": lambda m, i: i @ m.T / m.sum(1),
            "These are the examples that were left out.": lambda m, i: i @ (~m).T.astype(float),
        },
        right="One product: influence is additive, and that is the claim to be tested.",
    )  # fmt: skip


def check_lds(answer: Any) -> Callable[..., Any]:
    """The score."""
    return check(
        "the linear datamodeling score", answer, _lds, [_made(seed) for seed in (1, 2)],
        mistakes={
            "This is Pearson's correlation. Take ranks: only the order is predicted.": lambda p, m: float(
                np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(p, m)])
            ),
            "All queries are thrown together here. Correlate over the parts, for each query alone; then take the mean.": lambda p, m: float(
                _spearman(p.reshape(1, -1), m.reshape(1, -1))[0]
            ),
            "You correlate over the queries. Correlate over the parts of the data.": lambda p, m: float(
                _spearman(p.T, m.T).mean()
            ),
        },
        right="It asks one thing: which parts of the data are better for this query?",
    )  # fmt: skip


def check_bootstrap(answer: Any) -> Callable[..., Any]:
    """The interval."""
    rng = np.random.default_rng(3)
    cases = [(rng.normal(size=30), rng.integers(0, 30, (500, 30))) for _ in range(2)]
    return check(
        "a bootstrap interval", answer, _bootstrap, cases,
        mistakes={
            "These are quantiles of the values: how much queries differ. Take the mean of each resample first.": (
                lambda v, p: np.quantile(v, [0.025, 0.975])
            ),
            "That is 90%: leave 2.5% on each side.": lambda v, p: np.quantile(v[p].mean(1), [0.05, 0.95]),
            "Mean over the resample (axis 1), not over the resamples.": lambda v, p: np.quantile(v[p].mean(0), [0.025, 0.975]),
        },
        right="How far the mean would move with other queries of the same kind.",
    )  # fmt: skip


def check_ceiling(answer: Any) -> Callable[..., Any]:
    """What a perfect prediction would get."""
    return check(
        "the noise ceiling", answer, _ceiling, [(0.5, 1), (0.5, 5), (0.8, 3)],
        mistakes={
            "That is the reliability of the mean; a perfect prediction correlates with its square root.": lambda r, k: (
                k * r / (1 + (k - 1) * r)
            ),
            "That is for one training; averaging over k helps.": lambda r, k: float(np.sqrt(r)),
        },
        right="Even the truth would not score 1: two trainings on the same data disagree.",
    )  # fmt: skip


def ask_ceiling() -> None:
    """Whether 1 can be reached."""
    predict(
        "Two trainings on the same half, with other seeds, agree with a correlation of .5. What can a perfect method score?",
        ["1", "about .7", ".5"],
        1,
        "One training is truth plus noise. The truth correlates with it by the square root of .5. Averaging trainings helps.",
    )


def ask_exact() -> None:
    """Whether an exact solve is better."""
    predict(
        "CG solves with the joint curvature of all layers, EK-FAC approximates layer by layer. Whose LDS is higher?",
        ["CG's, always", "EK-FAC's, always", "it depends on the damping"],
        2,
        "An exact solve also amplifies weak directions exactly, and retraining does not follow them. See the picture.",
    )


def ask_subsets() -> None:
    """What one needs to see a difference."""
    predict(
        "With 5 random halves instead of 100, the mean LDS of a good method is about the same. What changes?",
        ["nothing", "how much it varies from one draw of halves to another", "the sign"],
        1,
        "Five ranks are few: single queries get anything from -1 to 1. The mean over queries hides it; they share the halves.",
    )


def ask_claim() -> None:
    """What to ask first."""
    predict(
        "A post says: 'our method has an LDS of .30, theirs .26, on 20 queries'. What do you ask first?",
        ["which learning rate was used", "what the interval of the difference is", "how large the model is"],
        1,
        "Both were measured on the same queries and halves: pair them. A difference of .04 on 20 queries may well be nothing.",
    )
