"""What every analysis asks of its arrays: the influence itself, and labels of queries and training sequences."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from inflab.effects import require
from inflab.errors import NumericsError, SchemaError, SettingError

__all__ = [
    "BOUNDS",
    "bootstrap_note",
    "check_finite",
    "influence_of",
    "kept",
    "labels_of",
    "of_list",
    "of_query",
    "of_train",
    "units_of",
]

BOUNDS = np.array(["low", "high"], dtype=object)


def influence_of(arrays: Any, *dims: str) -> xr.DataArray:
    """The numbers of scores, tokens or a list.

    Args:
        arrays: a dataset with `influence`, or `effect` in its place.
        *dims: that it must have.

    Returns:
        The variable.

    Raises:
        SchemaError: when neither is there, or a dim is missing.
    """
    name = "effect" if "effect" in getattr(arrays, "data_vars", ()) and "influence" not in arrays else "influence"
    require(arrays, name, *dims)
    value: xr.DataArray = arrays[name]
    return value


def check_finite(value_qt: np.ndarray, queries: Any, mend: str) -> None:
    """Refuse values that are NaN or infinite.

    Args:
        value_qt: a row for each query.
        queries: their ids.
        mend: what the message proposes.

    Raises:
        NumericsError: naming the first query that has one.
    """
    is_bad_q = ~np.isfinite(value_qt.reshape(len(value_qt), -1)).all(1)
    if is_bad_q.any():
        query = np.asarray(queries)[is_bad_q].tolist()[0]
        raise NumericsError(f"scores of query {query!r} hold NaN or infinity; {mend}")


def units_of(value: xr.DataArray) -> str:
    """Units of a variable, "1" where it says none."""
    return str(value.attrs.get("units", "1"))


def kept(arrays: xr.Dataset | xr.DataArray, *dims: str) -> dict[str, Any]:
    """Coordinates over these dims only, or over none."""
    return {str(name): coord.variable for name, coord in arrays.coords.items() if set(coord.dims) <= set(dims)}


def of_query(arrays: xr.Dataset | xr.DataArray, name: str) -> np.ndarray:
    """A label of the queries.

    Args:
        arrays: that carry it.
        name: of the coordinate `name (query)`, in results `query_name (query)`.

    Returns:
        Its values.

    Raises:
        SchemaError: when there is none.
    """
    return _coordinate(arrays, ("query",), name, f"query_{name}")


def of_train(arrays: xr.Dataset | xr.DataArray, name: str) -> np.ndarray:
    """A label of the training sequences.

    Args:
        arrays: that carry it.
        name: of the coordinate `name (train)`, or `train_name (train)`.

    Returns:
        Its values.

    Raises:
        SchemaError: when there is none.
    """
    return _coordinate(arrays, ("train",), name, f"train_{name}")


def of_list(best: xr.Dataset, name: str) -> np.ndarray:
    """A label of listed training sequences.

    Args:
        best: a list.
        name: of the coordinate `name (query, rank)`, or `train_name (query, rank)`.

    Returns:
        Its values, `(query, rank)`.

    Raises:
        SchemaError: when there is none.
    """
    return _coordinate(best, ("query", "rank"), name, f"train_{name}")


def _coordinate(arrays: xr.Dataset | xr.DataArray, dims: tuple[str, ...], *names: str) -> np.ndarray:
    for name in names:
        if name in arrays.coords and set(arrays.coords[name].dims) == set(dims):
            found: np.ndarray = arrays.coords[name].transpose(*dims).to_numpy()
            return found
    there = sorted(str(name) for name, coord in arrays.coords.items() if set(coord.dims) == set(dims))
    raise SchemaError([
        f"/: coordinate {names[0]!r} over {dims} is missing; there are {there}. Labels are keywords of inflab.encode"
    ])


def labels_of(values: xr.DataArray, labels: Any) -> np.ndarray:
    """A label for each value along the one dim of `values`.

    Args:
        values: over one dim.
        labels: the name of a coordinate (with or without its prefix `query_`), or an array; a DataArray with ids is
            matched by them.

    Returns:
        The labels, in the order of the values.

    Raises:
        SchemaError: when there is no such coordinate.
        SettingError: when the array has another length, or lacks an id.
    """
    dim = str(values.dims[0])
    if isinstance(labels, str):
        return _coordinate(values, (dim,), labels, f"{dim}_{labels}")
    if isinstance(labels, xr.DataArray) and dim in labels.coords and dim in values.coords and labels.dims == (dim,):
        ids = values[dim].to_numpy()
        lost = [one for one in ids.tolist() if one not in set(labels[dim].to_numpy().tolist())]
        if lost:
            raise SettingError(f"labels has none for {dim} {lost[0]!r}; give one for each")
        labels = labels.sel({dim: ids})
    found: np.ndarray = labels.to_numpy() if isinstance(labels, xr.DataArray) else np.asarray(labels, dtype=object)
    if found.shape != (values.sizes[dim],):
        raise SettingError(
            f"labels has shape {found.shape}, values has {values.sizes[dim]} along {dim!r}; give one each"
        )
    return found


def bootstrap_note(level: float, over: str) -> str:
    """What an interval's description says."""
    return f"{level:.0%} percentile bootstrap interval over {over}"
