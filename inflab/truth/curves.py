"""What a ranking is worth: the loss that removing its top brings, measured by training again.

Removing the examples that help a query most should raise the query's loss more than removing as many at random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from inflab import labels
from inflab.agreement import by_name, matched
from inflab.errors import SettingError, check_bootstrap, check_count, is_finite_number
from inflab.schema import variable_attrs
from inflab.truth.bank import draw_seeds, kept, root
from inflab.truth.material import Material, Trial

if TYPE_CHECKING:
    from inflab.truth.recipe import Recipe

__all__ = ["removal_curve"]

_RANDOM = "random"
_BOUND = np.array(["low", "high"], dtype=object)


def removal_curve(
    recipe: Recipe,
    corpus: xr.Dataset,
    queries: xr.Dataset,
    scores: xr.Dataset | Mapping[str, xr.Dataset],
    *,
    shares: Sequence[float] = (0.01, 0.02, 0.05, 0.1, 0.2),
    seeds: int = 3,
    random: int = 10,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    store: str | Path | None = None,
    at_once: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Remove the top share of the training set by each method, for each query, and train again.

    Removed are the examples of largest influence on the query, whatever their sign; equal ones in the corpus' order.
    That is a training for each method, share, query and seed (equal sets are trained on once). Random sets are the same
    for all queries.

    Args:
        recipe: how models are trained.
        corpus: over `train`.
        queries: over `query`.
        scores: `influence (query, train[, layer])` of all of these, or a mapping from a name to such; layers are
            summed.
        shares: of the training set, ascending.
        seeds: trainings on each set, and on everything.
        random: sets drawn at random of each share, as the estimator "random"; 0 leaves it out.
        resamples: of the bootstrap over queries.
        level: of the intervals.
        seed: of the trainings' seeds, the random sets and the bootstrap.
        store: where finished trainings are kept, so that a run that was broken off goes on when it is called again.
        at_once: models trained together; from their size when None.
        progress: show a bar over trainings.

    Returns:
        `change (estimator, share, query)`, the mean over seeds (and random sets) of what removing adds to the query's
        measurement; `rise (estimator, share)`, the mean over queries of its fall, which is the rise of the query's loss
        where the measurement is a log-probability, with `interval (estimator, share, bound)`; paired, from the same
        resamples: `difference (estimator, other, share)`, rise of estimator minus that of other, and
        `difference_interval (estimator, other, share, bound)`; all in nat. `removed (share)`: how many examples.
        Intervals are over queries, NaN for one.

    Raises:
        SettingError: when a setting is outside its domain.
        SchemaError: when scores have no influence.
        CorpusError: when a corpus does not fit the recipe, or the scores are of others.
        ModelError: when the recipe makes no model.
        NumericsError: when scores hold NaN, or a training diverges.
        StoreError: the store holds something else, is being written by another process, or cannot be written.

    Example:
        >>> scores = inflab.EKFAC().fit(followed).score(asked)
        >>> found = inflab.truth.removal_curve(recipe, table, asked, scores, shares=[0.1], seeds=1, random=2)
        >>> found["rise"].dims, found["removed"].item()
        (('estimator', 'share'), 4)
    """
    for name, value, least in (("seeds", seeds, 1), ("random", random, 0), ("seed", seed, 0)):
        check_count(name, value, least=least)
    check_bootstrap(resamples, level)
    named = by_name(scores)
    if _RANDOM in named:
        raise SettingError(f"scores holds the name {_RANDOM!r}, which is that of random sets; call it otherwise")
    material = Material(recipe, corpus, queries)
    sizes = _sizes(shares, material.n)
    ids = corpus["train"].to_numpy()
    asked = queries["query"].to_numpy()
    orders = [np.argsort(-matched(n, one, asked, ids, "the corpus"), axis=1, kind="stable") for n, one in named.items()]
    estimators = [*named, *([_RANDOM] if random else [])]

    draw = np.random.default_rng([2, seed])
    shuffled = np.stack([draw.permutation(material.n) for _ in range(random)]) if random else None
    sets: dict[bytes, int] = {}
    removed: list[np.ndarray] = []

    def place(members: np.ndarray) -> int:
        is_out = np.zeros(material.n, bool)
        is_out[members] = True
        if is_out.tobytes() not in sets:
            sets[is_out.tobytes()] = len(removed)
            removed.append(is_out)
        return sets[is_out.tobytes()]

    of_msq = np.array([[[place(row[:size]) for row in order] for size in sizes] for order in orders])
    of_sr = None if shuffled is None else np.array([[place(row[:size]) for row in shuffled] for size in sizes])
    of_trainings = draw_seeds(seed, seeds)
    everything = np.arange(material.n)
    rows = [everything, *(np.flatnonzero(~is_out) for is_out in removed)]
    trials = [Trial(positions, each) for positions in rows for each in of_trainings]

    def assemble(found: np.ndarray) -> xr.Dataset:
        measured = found.reshape(len(rows), seeds, -1).astype(np.float64)
        change_kq = (measured[1:] - measured[0]).mean(axis=1)
        change_msq = np.take_along_axis(change_kq[None], of_msq.reshape(1, -1, len(asked)), axis=1)
        change_msq = change_msq.reshape(of_msq.shape)
        if of_sr is not None:
            change_msq = np.concatenate([change_msq, change_kq[of_sr].mean(axis=1)[None]])
        attrs = root("removal_curve", material, seed=int(seed), seeds=seeds, random=random, resamples=resamples)
        return _curves(estimators, [float(s) for s in shares], sizes, change_msq, queries, level, attrs)

    said = hashlib.sha256(b"".join([*map(str.encode, estimators), of_msq.tobytes(), *sets]))
    identity = {
        "seed": int(seed), "seeds": seeds, "random": random, "resamples": resamples, "level": float(level),
        "shares": [float(share) for share in shares], "sets": said.hexdigest()[:16],
    }  # fmt: skip
    return kept(material, trials, assemble, "removal_curve", identity, store=store, at_once=at_once, progress=progress)


def _curves(
    estimators: list[str],
    shares: list[float],
    sizes: list[int],
    change_msq: np.ndarray,
    queries: xr.Dataset,
    level: float,
    attrs: dict[str, Any],
) -> xr.Dataset:
    n_query = change_msq.shape[2]
    rise_msq = -change_msq
    rise_ms = rise_msq.mean(axis=2)
    draw = np.random.default_rng([3, attrs["seed"]])
    weight_bq = draw.multinomial(n_query, np.full(n_query, 1 / n_query), attrs["resamples"]) / n_query
    drawn_bms = np.einsum("bq,msq->bms", weight_bq, rise_msq)
    ends = [(1 - level) / 2, (1 + level) / 2]

    def interval(drawn: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.moveaxis(np.quantile(drawn, ends, axis=0), 0, -1)
        return found if n_query > 1 else np.full_like(found, np.nan)

    apart_mos = np.stack([interval(drawn_bms[:, one, None] - drawn_bms) for one in range(len(estimators))])
    said = f"{level:.0%} bootstrap interval over queries"
    names = np.array(estimators, dtype=object)
    return xr.Dataset(
        {
            "change": (
                ("estimator", "share", "query"),
                change_msq,
                variable_attrs("measured change", "nat", "mean over seeds of what removing adds to the measurement"),
            ),
            "rise": (
                ("estimator", "share"),
                rise_ms,
                variable_attrs("rise of the loss", "nat", "mean over queries of the fall of their measurement"),
            ),
            "interval": (
                ("estimator", "share", "bound"),
                interval(drawn_bms),
                variable_attrs("interval of the rise", "nat", said),
            ),
            "difference": (
                ("estimator", "other", "share"),
                rise_ms[:, None] - rise_ms[None],
                variable_attrs("difference of the rise", "nat", "estimator minus other"),
            ),
            "difference_interval": (
                ("estimator", "other", "share", "bound"),
                apart_mos,
                variable_attrs("interval of the difference", "nat", f"{said}, paired: the same resamples for both"),
            ),
            "removed": ("share", sizes, variable_attrs("removed", "1", "training examples that are left out")),
        },
        coords={
            "estimator": names, "other": names, "share": shares, "bound": _BOUND, **labels.query_coords(queries),
        },
        attrs={**attrs, "level": float(level)},
    )  # fmt: skip


def _sizes(shares: Any, n: int) -> list[int]:
    if not isinstance(shares, Sequence | np.ndarray) or isinstance(shares, str) or not len(shares):
        raise SettingError(f"shares={shares!r} must be a list of numbers between 0 and 1")
    for share in shares:
        if not is_finite_number(share) or not 0 < share < 1:
            raise SettingError(f"shares holds {share!r}; each must lie between 0 and 1")
        if not 0 < round(share * n) < n:
            raise SettingError(f"shares holds {share!r}, which is {round(share * n)} of {n} examples; leave some out")
    if any(later <= share for share, later in zip(shares, shares[1:], strict=False)):
        raise SettingError(f"shares={shares!r} must ascend")
    return [round(share * n) for share in shares]
