"""What removing documents does: the top documents of each method against random ones, and flipped labels found.

Removing the most helpful share of the training set for a query, and training again, must hurt that query more when the
ranking is right. Self-influence must put mislabelled examples first (Koh and Liang 2017, section 5.4).
"""

from __future__ import annotations

import numpy as np
import xarray as xr

import inflab
from benchmarks.accuracy.cases import case
from inflab import truth

__all__ = ["CASES", "SHARES", "flipped", "removal"]

#: Whose top documents are removed.
CASES = ("concrete", "digits")

SHARES = (0.01, 0.05, 0.2)


def removal(name: str, *, queries: int = 30, seeds: int = 3) -> xr.Dataset:
    """Removal curves of a case.

    Args:
        name: of the case.
        queries: how many, drawn from those of the case.
        seeds: of each training.

    Returns:
        Of `inflab.truth.removal_curve`, for EK-FAC, the dot product and random rows.
    """
    chosen = case(name)
    asked = np.sort(np.random.default_rng(1).choice(chosen.queries.sizes["query"], queries, replace=False))
    some = chosen.queries.isel(query=asked)
    model = chosen.recipe.train(chosen.corpus, seed=1000, progress=False).model
    problem = inflab.Problem(model, chosen.recipe.task, chosen.corpus)
    scores = {
        method: getattr(inflab, method)(layers=chosen.layers).fit(problem, progress=False).score(some, progress=False)
        for method in ("EKFAC", "Identity")
    }
    return truth.removal_curve(chosen.recipe, chosen.corpus, some, scores, shares=SHARES, seeds=seeds, random=5)


def flipped(name: str = "digits", *, share: float = 0.1, seed: int = 0) -> tuple[xr.Dataset, np.ndarray]:
    """A case's corpus with some labels changed to another class.

    Args:
        name: of the case.
        share: of the labels.
        seed: which ones, and to what.

    Returns:
        The corpus, and which labels are wrong.
    """
    corpus = case(name).corpus
    rng = np.random.default_rng(seed)
    target = corpus["target"].to_numpy().copy()
    classes = int(target.max()) + 1
    wrong = rng.permutation(len(target))[: round(share * len(target))]
    target[wrong] = (target[wrong] + rng.integers(1, classes, len(wrong))) % classes
    return corpus.assign(target=corpus["target"].copy(data=target)), np.isin(np.arange(len(target)), wrong)
