"""Flipped labels found by looking at examples in the order of their self-influence (Koh & Liang 2017, section 5.4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import CorpusError, NumericsError, SchemaError, check_bootstrap, check_count
from inflab.schema import root_attrs, variable_attrs

__all__ = ["mislabel_curve"]

_POINTS = 200  # of a curve
_TENTH = 0.1


def mislabel_curve(
    self_influence: xr.Dataset,
    is_flipped: xr.DataArray | Sequence[bool] | np.ndarray,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> xr.Dataset:
    """Flipped labels found by inspecting training examples in the order of their self-influence, largest first.

    Args:
        self_influence: `influence (train[, layer])`, of `Influence.self_influence`; layers are summed.
        is_flipped: bool `(train,)`: by label when it has the coordinate `train`, else in the same order.
        resamples: of the bootstrap over training examples.
        level: of the intervals.
        seed: of the bootstrap.

    Returns:
        `found (inspected)`: share of the flipped labels among the share `inspected` of the training set that was looked
        at first, equal scores in random order on average; `interval (inspected, bound)`; `best (inspected)`, when all
        flipped ones come first. `auc`, the area under the curve (1/2 for a random order, at best 1 minus half the share
        that is flipped), and `found_at_10_percent`, each with `..._interval (bound)`; both in attrs too.

    Raises:
        SchemaError: when there is no influence over `train`.
        CorpusError: when ids do not match, or no label is flipped, or all are.
        NumericsError: when an influence is NaN.
        SettingError: when a setting is outside its domain.

    Example:
        >>> own = inflab.EKFAC().fit(followed).self_influence()
        >>> is_flipped = np.arange(table.sizes["train"]) < 3
        >>> found = inflab.truth.mislabel_curve(own, is_flipped, resamples=50)
        >>> found["found"].dims, found["auc_interval"].dims
        (('inspected',), ('bound',))
    """
    check_count("seed", seed, least=0)
    check_bootstrap(resamples, level)
    value_t, flipped_t = _inspected(self_influence, is_flipped)
    n, n_flipped = len(value_t), int(flipped_t.sum())
    place = np.unique([*np.linspace(0, n, min(n, _POINTS) + 1).round(), round(_TENTH * n)]).astype(int)
    share = place / n
    order = np.argsort(-value_t, kind="stable")
    # Within equal scores the flipped are spread evenly: the mean over all their orders.
    tie_t = np.unique(-value_t[order], return_inverse=True)[1]
    hit_t = flipped_t[order].astype(np.float64)

    def curve(weight_t: np.ndarray) -> tuple[np.ndarray, float]:
        size, found = np.bincount(tie_t, weight_t), np.bincount(tie_t, weight_t * hit_t)
        seen = np.concatenate([[0.0], size.cumsum() / size.sum()])
        reached = np.concatenate([[0.0], found.cumsum() / found.sum()])
        return np.interp(share, seen, reached), float(np.trapezoid(reached, seen))

    found, auc = curve(np.ones(n))
    draw = np.random.default_rng(seed)
    drawn, areas = np.full((resamples, len(share)), np.nan), np.full(resamples, np.nan)
    for number in range(resamples):
        weight_t = np.bincount(draw.integers(0, n, n), minlength=n).astype(np.float64)
        if weight_t @ hit_t > 0:
            drawn[number], areas[number] = curve(weight_t)
    ends = [(1 - level) / 2, (1 + level) / 2]
    tenth = int(np.flatnonzero(place == round(_TENTH * n))[0])
    interval = np.nanquantile(drawn, ends, axis=0).T
    said = f"{level:.0%} bootstrap interval over training examples"
    about = {
        "found": variable_attrs("flipped labels found", "1", "share of all flipped labels"),
        "auc": variable_attrs("area under the curve", "1", "of found over inspected; 1/2 for a random order"),
        "found_at_10_percent": variable_attrs("found in the first 10%", "1", "share of all flipped labels"),
    }
    ours = {
        "resamples": resamples, "level": float(level), "seed": int(seed), "n_flipped": n_flipped, "auc": auc,
        "found_at_10_percent": float(found[tenth]),
    }  # fmt: skip
    best = np.minimum(1.0, place / n_flipped)
    return xr.Dataset(
        {
            "found": ("inspected", found, about["found"]),
            "interval": (("inspected", "bound"), interval, variable_attrs("interval of the share", "1", said)),
            "best": ("inspected", best, variable_attrs("best", "1", "share found when all flipped ones come first")),
            "auc": ((), auc, about["auc"]),
            "auc_interval": ("bound", np.nanquantile(areas, ends), variable_attrs("interval of the area", "1", said)),
            "found_at_10_percent": ((), float(found[tenth]), about["found_at_10_percent"]),
            "found_at_10_percent_interval": (
                "bound",
                interval[tenth],
                variable_attrs("interval of what is found in the first 10%", "1", said),
            ),
        },
        coords={"inspected": share, "bound": np.array(["low", "high"], dtype=object)},
        attrs={**self_influence.attrs, **root_attrs("mislabel_curve", **ours)},
    )


def _inspected(self_influence: Any, is_flipped: Any) -> tuple[np.ndarray, np.ndarray]:
    """Self-influence and whether the label is flipped, in the same order."""
    if not isinstance(self_influence, xr.Dataset) or "influence" not in self_influence:
        raise SchemaError(["/: self_influence has no variable 'influence'; make it with Influence.self_influence"])
    value = self_influence["influence"]
    if not {"train"} <= set(value.dims) <= {"train", "layer"}:
        raise SchemaError([f"/: 'influence' has dims {value.dims}, needs ('train',)"])
    value = value.sum("layer") if "layer" in value.dims else value
    value_t = value.to_numpy().astype(np.float64)
    if isinstance(is_flipped, xr.DataArray) and "train" in is_flipped.coords:
        known = pd.Index(is_flipped["train"].to_numpy().tolist(), dtype=object)
        place = known.get_indexer(self_influence["train"].to_numpy().tolist())
        if (place < 0).any():
            lost = self_influence["train"].to_numpy()[place < 0].tolist()[0]
            raise CorpusError(f"is_flipped does not name train {lost!r}; use the same corpus for both")
        flipped_t = is_flipped.to_numpy()[place]
    else:
        flipped_t = np.asarray(is_flipped)
    if flipped_t.shape != value_t.shape or flipped_t.dtype != bool:
        raise CorpusError(
            f"is_flipped has shape {flipped_t.shape} and dtype {flipped_t.dtype}; it needs one bool for each of the "
            f"{len(value_t)} training examples"
        )
    if not 0 < flipped_t.sum() < len(flipped_t):
        raise CorpusError(f"is_flipped holds {int(flipped_t.sum())} of {len(flipped_t)} as True; some must be, not all")
    if np.isnan(value_t).any():
        bad = self_influence["train"].to_numpy()[np.isnan(value_t)].tolist()
        raise NumericsError(f"self-influence of train {bad[0]!r} is NaN; fit again, with a larger damping")
    return value_t, flipped_t
