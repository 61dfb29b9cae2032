"""What a score predicts, in units people read: nats and percent, for copies added or groups left out.

What is predicted is first order in the weights of the training sequences (GB23 eq. 6): `c` more copies of sequence m
change the measurement f by `c I_f(z_m) / n_train`, and sequences that go together change it by the sum. Labelled arrays
in, labelled arrays out; no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import CorpusError, SchemaError, SettingError, is_finite_number
from inflab.schema import root_attrs, variable_attrs

__all__ = ["effect", "effect_attrs", "predicts", "removal", "require", "rows", "summed"]

_BYTES = 2**28  # of scores in memory at a time
_UNITS = "nat per unit weight"


def effect(scores: xr.Dataset, *, copies: float = 1) -> xr.Dataset:
    """Predicted change of the query's measurement when copies of a training sequence are added (GB23 eq. 6).

    `effect = copies * influence / n_train`, and `percent = 100 * expm1(effect)`: the same as a change of the
    probability in percent of what it is, so that -50 halves it and 100 doubles it; for a regression, of the density
    under unit variance. Percent of parts do not add up, so arrays that keep layers or tokens apart get none: sum first.
    Nor does a measurement that is no log-probability, where the attribute `measurement` of the scores says so.

    Args:
        scores: a dataset with `influence` (any dims) and the attribute `n_train`: scores, a top list, tokens.
        copies: how many are added; negative numbers remove (-1: left out once).

    Returns:
        The same dataset with `effect` (nat) in place of `influence`, and `percent` (%) beside it.

    Raises:
        SchemaError: when `influence` or `n_train` is missing, or `influence` is a similarity, which predicts nothing.
        SettingError: when `copies` is no finite number.

    Example:
        >>> found = inflab.effect(scores, copies=2)
        >>> found["effect"].equals(2 * scores["influence"] / scores.attrs["n_train"])
        True
        >>> found["percent"].attrs["units"]
        '%'
    """
    require(scores, "influence")
    n_train = _n_train(scores)
    if not is_finite_number(copies):
        raise SettingError(f"copies={copies!r} must be a finite number; 1 adds a copy, -1 leaves the sequence out")
    value = scores["influence"] / n_train
    value = (value if copies == 1 else value * float(copies)).assign_attrs(effect_attrs(scores, copies))
    found = scores.drop_vars(["influence", "percent"], errors="ignore").assign(effect=value)
    if not _is_log_probability(scores) or set(value.dims) & set(_PARTS):
        return found
    return found.assign(percent=_percent(value, copies))


def removal(
    scores: xr.Dataset,
    groups: xr.DataArray | Mapping[Any, Iterable[Any]] | Iterable[Iterable[Any]],
    *,
    measured: xr.Dataset | None = None,
) -> xr.Dataset:
    """Predicted change of each query when groups of training sequences are left out, beside the measured one.

    The prediction for a group is minus the sum of its members' effects: first order, so that members which repeat
    one another are not told apart from members which do not.

    Args:
        scores: `influence (query, train[, layer])` with the attribute `n_train`; layers are summed.
        groups: `(group, train)` bool, True = left out; or lists of train ids, or names with such lists. Of what was
            measured: `measured["is_left_out"]`.
        measured: from `inflab.truth.leave_out`, of the same groups and queries: `change (group, query)` and, where it
            has one, `change_se`.

    Returns:
        A dataset over `(query, group)`: `effect` (nat) and `percent` (%) as of `inflab.effect`, and `size (group)`.
        With `measured`, also `measured` and `measured_se` (nat) and `measured_percent` (%). NaN where a member was not
        scored.

    Raises:
        CorpusError: when a group names a sequence that was not scored, or `measured` lacks a group or a query.
        SchemaError: when a variable, a dim or `n_train` is missing, or `influence` is a similarity.
        SettingError: when `groups` is something else, or holds a member twice.

    Example:
        >>> teachers = {"what taught it": [queries["taught_by"].values[0]]}
        >>> dict(inflab.removal(scores, teachers)["effect"].sizes)
        {'query': 3, 'group': 1}
    """
    require(scores, "influence", "query", "train")
    n_train = _n_train(scores)
    names, is_out_gt = _members(groups, scores["train"].to_numpy())
    influence = summed(scores)
    value_qg = np.empty((influence.sizes["query"], len(names)))
    for row, value_t in rows(influence):
        is_nan_t = np.isnan(value_t)
        value_qg[row] = -(is_out_gt @ np.where(is_nan_t, 0, value_t)) / n_train
        value_qg[row, (is_out_gt & is_nan_t).any(1)] = np.nan

    described = effect_attrs(scores, -1, "all members of the group are left out: minus the sum of their effects")
    about_size = variable_attrs("size", "1", "sequences of the group")
    coords = {str(name): coord for name, coord in scores.coords.items() if coord.dims in (("query",), ())}
    found = xr.Dataset(
        {"effect": (("query", "group"), value_qg, described), "size": ("group", is_out_gt.sum(1), about_size)},
        coords=coords | {"group": names},
        attrs={**scores.attrs, **root_attrs("removal")},
    )
    if measured is not None:
        found = found.assign(_beside(measured, found, is_out_gt, scores["train"].to_numpy()))
    if not _is_log_probability(scores):
        return found
    shares = {"effect": "percent", "measured": "measured_percent"}
    return found.assign({to: _percent(found[of], -1) for of, to in shares.items() if of in found})


_LOG_PROBABILITY = "log_probability"
_PARTS = ("layer", "token", "query_token")
#: What a measurement is called, and its unit.
_MEASURED = {
    _LOG_PROBABILITY: ("log-probability", "nat"),
    "margin": ("margin log(p / (1 - p))", "nat"),
    "output": ("output", "unit of the output"),
}


def effect_attrs(scores: xr.Dataset, copies: float = 1, when: str = "") -> dict[str, Any]:
    """What an effect is, by the scores' attribute `measurement` and by what is added or removed."""
    called, unit = _MEASURED.get(_measurement(scores), ("measurement", "unit of the measurement"))
    if when:
        when = f"when {when}"
    elif copies == 1:
        when = "per added copy of the training sequence: influence / n_train"
    else:
        done = f"{abs(copies):g} copies of the training sequence are {'added' if copies > 0 else 'removed'}"
        when = f"when {done}: {copies:g} * influence / n_train"
    attrs = variable_attrs("predicted effect", unit, f"predicted change of the query's {called} {when}")
    return attrs | {"sign": _sign(copies), "copies": float(copies)}


def _sign(copies: float) -> str:
    done = "an added copy makes" if copies == 1 else "adding them makes" if copies > 0 else "leaving it out makes"
    return f"positive: {done} the query's completion more likely"


def _percent(value: xr.DataArray, copies: float) -> xr.DataArray:
    with np.errstate(over="ignore"):  # what predicts more than 709 nat is infinite in percent
        found: xr.DataArray = xr.apply_ufunc(np.expm1, value.astype(np.float64), dask="allowed") * 100
    name, of = str(value.attrs["long_name"]), value.name
    described = f"change of the query's probability in percent of what it is (a regression's density): 100 expm1({of})"
    attrs = variable_attrs(f"{name} in percent", "%", described, sign=_sign(copies), copies=float(copies))
    return found.drop_attrs().assign_attrs(attrs)


def predicts(scores: xr.Dataset) -> bool:
    """Whether `influence` is nats per unit weight: a similarity, or another scale, ranks and predicts nothing."""
    return bool(scores["influence"].attrs.get("units", _UNITS) == _UNITS)


def _measurement(scores: xr.Dataset) -> str:
    return str(scores.attrs.get("measurement", _LOG_PROBABILITY))


def _is_log_probability(scores: xr.Dataset) -> bool:
    return _measurement(scores) == _LOG_PROBABILITY


def _n_train(scores: xr.Dataset) -> int:
    if not predicts(scores):
        method, units = scores.attrs.get("method", "this method"), scores["influence"].attrs["units"]
        what = "is a similarity (units '1')" if units == "1" else f"has units {units!r}"
        raise SchemaError([
            f"/: 'influence' of {method} {what}, and predicts no change in nats; rank by it with inflab.top, or score "
            "with a method that does, such as inflab.EKFAC"
        ])
    if "n_train" not in scores.attrs:
        raise SchemaError(["/: attribute 'n_train' is missing, so influence cannot be turned into nats per copy"])
    return int(scores.attrs["n_train"])


def summed(scores: xr.Dataset) -> xr.DataArray:
    """`influence (query, train)`, layers summed."""
    influence = scores["influence"]
    if "layer" in influence.dims:
        influence = influence.sum("layer", keep_attrs=True)
    return influence.transpose("query", "train")


def _members(groups: Any, ids: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Names of the groups, and which of `ids` each leaves out, `(group, train)`."""
    lists = _lists(groups, ids)
    known = pd.Index(ids.tolist(), dtype=object)
    is_out_gt = np.zeros((len(lists), len(ids)), bool)
    for row, (name, members) in enumerate(lists.items()):
        place = known.get_indexer(pd.Index(members, dtype=object))
        if (place < 0).any():
            lost = members[int(np.argmin(place))]
            raise CorpusError(f"group {name!r} names train {lost!r}, which the scores do not hold")
        is_out_gt[row, place] = True
        if is_out_gt[row].sum() < len(members):
            raise SettingError(f"group {name!r} has a member twice; a sequence is left out once")
    return list(lists), is_out_gt


def _lists(groups: Any, ids: np.ndarray) -> dict[Any, list[Any]]:
    if isinstance(groups, xr.DataArray):
        if set(groups.dims) != {"group", "train"} or groups.dtype != bool:
            raise SettingError(
                f"groups has dims {groups.dims} and dtype {groups.dtype}; it needs bool (group, train), True = left out"
            )
        out_gt = groups.transpose("group", "train").to_numpy()
        within = groups["train"].to_numpy() if "train" in groups.coords else ids
        if len(within) != out_gt.shape[1]:
            raise SettingError(f"groups has {out_gt.shape[1]} sequences without ids, the scores have {len(ids)}")
        return {
            name: within[row].tolist() for name, row in zip(groups["group"].to_numpy().tolist(), out_gt, strict=True)
        }
    if isinstance(groups, Mapping):
        return {name: list(members) for name, members in groups.items()}
    if isinstance(groups, str) or not isinstance(groups, Iterable):
        raise SettingError(f"groups is a {type(groups).__name__}; give bool (group, train), or lists of train ids")
    given = list(groups)
    if any(isinstance(members, str) or not isinstance(members, Iterable) for members in given):
        raise SettingError("groups is one flat list; give a list of lists of train ids, such as [[3, 8], [5]]")
    return {place: np.asarray(list(members), dtype=object).tolist() for place, members in enumerate(given)}


def _beside(measured: Any, found: xr.Dataset, is_out_gt: np.ndarray, ids: np.ndarray) -> dict[str, xr.DataArray]:
    """What retraining measured, in the order of what was predicted."""
    if not isinstance(measured, xr.Dataset) or "change" not in measured:
        raise SchemaError(["/: measured has no variable 'change (group, query)'; make it with inflab.truth.leave_out"])
    for dim in ("group", "query"):
        known = set(measured[dim].to_numpy().tolist())
        lost = [label for label in found[dim].to_numpy().tolist() if label not in known]
        if lost:
            raise CorpusError(f"measured has no {dim} {lost[0]!r}; make it from the same groups and queries")
    chosen = measured.sel(group=found["group"], query=found["query"])
    if "is_left_out" in chosen:
        _, is_left_out_gt = _members(chosen["is_left_out"], ids)
        differs = (is_left_out_gt != is_out_gt).any(1)
        if differs.any():
            name = found["group"].to_numpy()[differs].tolist()[0]
            raise CorpusError(f"measured left other sequences out of group {name!r}; give groups=measured.is_left_out")
    like = found["effect"].attrs
    about = "change of the query's measurement after training without the group"
    attrs = {
        "measured": variable_attrs("measured effect", like["units"], about, sign=like["sign"]),
        "measured_se": variable_attrs("standard error of the measured effect", like["units"], f"over seeds: {about}"),
    }
    names = {"change": "measured", "change_se": "measured_se"}
    return {
        to: xr.DataArray(chosen[of].transpose("query", "group").to_numpy(), dims=("query", "group"), attrs=attrs[to])
        for of, to in names.items()
        if of in chosen
    }


def rows(influence: xr.DataArray) -> Iterator[tuple[int, np.ndarray]]:
    """Rows in float64, some queries at a time: scores may be larger than memory, and a chunk on disk holds many.

    Yields:
        Row number and values.
    """
    at_once = max(1, _BYTES // (8 * influence.sizes["train"]))
    for start in range(0, influence.sizes["query"], at_once):
        block_qt = influence[start : start + at_once].to_numpy().astype(np.float64)
        yield from enumerate(block_qt, start)


def require(scores: xr.Dataset, variable: str, *dims: str) -> None:
    """Refuse what is no dataset with this variable over these dims.

    Raises:
        SchemaError: saying what is missing.
    """
    if not isinstance(scores, xr.Dataset):
        raise SchemaError([f"/: expected an xarray Dataset with `{variable}`, got {type(scores).__name__}"])
    if variable not in scores:
        raise SchemaError([f"/: variable {variable!r} is missing; the dataset holds {sorted(map(str, scores))}"])
    missing = [dim for dim in dims if dim not in scores[variable].dims]
    if missing:
        raise SchemaError([f"/: {variable!r} has dims {scores[variable].dims}, needs {missing} too"])
