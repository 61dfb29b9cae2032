"""The same method fitted again, on other pseudo-labels and on halves of the data, and how far its answers move.

The spread of an influence over pseudo-labels is that of fits with other seeds. Its spread over the training data comes
from half-sample replication (McCarthy 1969, "Pseudo-replication: half samples"): of the fits a, b on the two halves
of a random split, (a - b) / 2 varies as one fit on the whole does, so that for S splits, with S degrees of freedom,

    variance = (1/S) sum_s ((a_s - b_s) / 2)^2

The halves hold different pseudo-labels too, so this spread contains the other. What both halves have in
common against a fit on the whole (a sequence outside its fit has more influence) cancels in a - b.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from scipy import stats
from tqdm.auto import tqdm

from inflab import labels
from inflab.problem import Problem
from inflab.select import top

__all__ = ["GIVEN", "HALF", "LABELS", "Fits", "Moves", "moves", "ranked_ids", "spearman"]

GIVEN, LABELS, HALF = "given", "labels", "half"

_SAME = 1e-5  # of the largest score: as much as another order of summation may change


@dataclass(frozen=True)
class Fits:
    """Which fits are made, and how they run.

    Attributes:
        seeds: fits with different pseudo-labels, the given one included.
        splits: random splits of the training data in halves.
        seed: of the splits, and the first of the label seeds.
        running: memory, batch size and progress of each pass.
    """

    seeds: int
    splits: int
    seed: int
    running: dict[str, Any]


@dataclass(frozen=True)
class Moves:
    """What each fit says about the lists of the given one, which comes first.

    Attributes:
        names: of the fits.
        source: "given", "labels" or "half" of each.
        influence: `(fit, query, rank)` of the given lists; NaN where nothing is ranked.
        overlap: `(fit, query)`, share of the list that the fit lists too; NaN for an empty list.
        rank_correlation: `(fit, query)`, Spearman's, of all scores with the given ones.
        is_moved: `(fit,)`, whether any score differs.
    """

    names: list[str]
    source: np.ndarray
    influence: np.ndarray
    overlap: np.ndarray
    rank_correlation: np.ndarray
    is_moved: np.ndarray

    def label_spread(self) -> np.ndarray:
        """Standard deviation over label seeds, `(query, rank)`; NaN for one seed."""
        over_fqr = self.influence[self.source != HALF]
        return over_fqr.std(0, ddof=1) if len(over_fqr) > 1 else np.full(over_fqr.shape[1:], np.nan)

    def data_spread(self) -> np.ndarray:
        """Standard deviation by half-sample replication, `(query, rank)`; NaN without splits."""
        half_fqr = self.influence[self.source == HALF]
        if not len(half_fqr):
            return np.full(self.influence.shape[1:], np.nan)
        found: np.ndarray = np.sqrt((((half_fqr[0::2] - half_fqr[1::2]) / 2) ** 2).mean(0))
        return found

    def width(self, level: float) -> np.ndarray:
        """Half the width of the wider of the two intervals of Student's t, `(query, rank)`; NaN without either."""
        n_seeds, n_splits = (self.source == LABELS).sum(), (self.source == HALF).sum() // 2
        by_labels, by_halves = stats.t.ppf((1 + level) / 2, np.maximum([n_seeds, n_splits], 1))
        found: np.ndarray = np.fmax(by_labels * self.label_spread(), by_halves * self.data_spread())
        return found


def moves(influence: Any, queries: xr.Dataset, given: xr.Dataset, best: xr.Dataset, fits: Fits) -> Moves:
    """Fit again and score again, one fit after the other: no more than one is in memory beside the given.

    Args:
        influence: the given fit.
        queries: over `query`.
        given: its scores.
        best: its lists.
        fits: which others.

    Returns:
        What each fit says.
    """
    place_qrp, is_ranked_qr = labels.positions(queries, influence.problem.corpus, best)
    given_qt, listed = _values(given), ranked_ids(best)
    largest = np.abs(given_qt).max()
    found = []
    for name, source, scores in _scored(influence, queries, given, fits):
        value_qt, again = _values(scores), ranked_ids(top(scores, best.sizes["rank"]))
        value_qr = np.take_along_axis(value_qt, place_qrp[..., 1], axis=1)
        found.append({
            "names": name,
            "source": source,
            "influence": np.where(is_ranked_qr, value_qr, np.nan),
            "overlap": [len(a & b) / len(a) if a else np.nan for a, b in zip(listed, again, strict=True)],
            "rank_correlation": [spearman(a_t, b_t) for a_t, b_t in zip(given_qt, value_qt, strict=True)],
            "is_moved": bool(np.abs(value_qt - given_qt).max() > _SAME * largest),
        })
    names = [str(fit.pop("names")) for fit in found]
    return Moves(names, **{name: np.array([fit[name] for fit in found]) for name in found[0]})


def ranked_ids(best: xr.Dataset) -> list[set[Any]]:
    """The ids that each query's list holds."""
    ids, is_ranked = (best[name].transpose("query", "rank").to_numpy() for name in ("train", "is_ranked"))
    return [set(row[chosen].tolist()) for row, chosen in zip(ids, is_ranked, strict=True)]


def spearman(a_t: np.ndarray, b_t: np.ndarray) -> float:
    """Spearman's rank correlation; NaN where one of them is constant."""
    if np.ptp(a_t) == 0 or np.ptp(b_t) == 0:
        return float("nan")
    return float(np.corrcoef(stats.rankdata(a_t), stats.rankdata(b_t))[0, 1])


def _scored(
    influence: Any, queries: xr.Dataset, given: xr.Dataset, fits: Fits
) -> Iterator[tuple[str, str, xr.Dataset]]:
    """Every fit's scores of the whole training corpus.

    Yields:
        Name, source, scores.
    """
    problem, method, own = influence.problem, influence.method, int(influence.attrs["seed"])
    seeds = [seed for seed in range(fits.seed, fits.seed + fits.seeds) if seed != own][: fits.seeds - 1]
    n_train, draw = problem.corpus.sizes["train"], np.random.default_rng(fits.seed)
    total = 1 + len(seeds) + 2 * fits.splits
    with tqdm(total=total, desc="trust: fits", disable=not fits.running["progress"], leave=False) as bar:
        yield GIVEN, GIVEN, given
        bar.update()
        for seed in seeds:
            again = method.fit(problem, seed=seed, **fits.running)
            yield f"labels of seed {seed}", LABELS, again.score(queries, **fits.running)
            bar.update()
        for split in range(1, fits.splits + 1):
            order = draw.permutation(n_train)
            for half, rows in enumerate((order[: n_train // 2], order[n_train // 2 :]), start=1):
                part = problem.corpus.isel(train=np.sort(rows))
                smaller = Problem(problem.model, problem.task, part, checkpoints=problem.checkpoints)
                again = method.fit(smaller, seed=own, **fits.running)
                # The curvature of a half, every sequence scored under it.
                yield f"half {half} of split {split}", HALF, again.score(queries, train=problem.corpus, **fits.running)
                bar.update()


def _values(scores: xr.Dataset) -> np.ndarray:
    return np.asarray(scores["influence"].transpose("query", "train").to_numpy(), dtype=np.float64)
