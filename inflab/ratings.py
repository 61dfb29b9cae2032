"""Ratings of pairs of a query and a training sequence, and the lists that were rated: what they look like.

A rating is a place on a scale, counted from 1. Labelled arrays in, labelled arrays out; no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import SchemaError, SettingError
from inflab.schema import root_attrs, variable_attrs

__all__ = ["COLUMNS", "as_array", "as_text", "check_ratings", "frame", "is_ranked", "labelled", "lists_of"]

#: What a rating says, column by column.
COLUMNS = ("query", "train", "rating", "rater", "seconds", "note")


def frame(ratings: Any, name: str = "ratings") -> pd.DataFrame:
    """Ratings as a data frame, one pair a row.

    Args:
        ratings: a dataset over `pair`, or a data frame.
        name: for messages.

    Returns:
        A new frame with the columns of `COLUMNS`; rating is NaN where there is none.

    Raises:
        SchemaError: when a column is missing, or it is something else.
        SettingError: when a rating is no number.
    """
    if isinstance(ratings, xr.DataTree):
        ratings = ratings.to_dataset()
    if isinstance(ratings, xr.Dataset):
        lost = [one for one in ("query", "train", "rating") if one not in ratings or ratings[one].dims != ("pair",)]
        held = {str(one): value.to_numpy() for one, value in ratings.variables.items() if value.dims == ("pair",)}
        found = pd.DataFrame({one: held[one].tolist() for one in COLUMNS if one in held}, dtype=object)
    elif isinstance(ratings, pd.DataFrame):
        lost = [one for one in ("query", "train", "rating") if one not in ratings]
        found = pd.DataFrame({one: ratings[one].tolist() for one in COLUMNS if one in ratings}, dtype=object)
    else:
        raise SchemaError([f"/: {name} is a {type(ratings).__name__}; give Rating.ratings, or a data frame"])
    if lost:
        raise SchemaError([f"/: {name} has no {one!r} for each pair; it needs query, train and rating" for one in lost])
    for column, value in (("rater", ""), ("seconds", np.nan), ("note", "")):
        if column not in found:
            found[column] = value
    try:
        for column in ("rating", "seconds"):
            found[column] = pd.to_numeric(found[column]).astype(float)
    except (TypeError, ValueError) as error:
        raise SettingError(
            f"{name} holds what is no number ({error}); a rating counts from 1 along its scale"
        ) from error
    for column in ("rater", "note"):  # a table that was read from a file has NaN where nothing stands
        found[column] = ["" if pd.isna(value) else str(value) for value in found[column]]
    return found[list(COLUMNS)]


def labelled(rows: Sequence[Mapping[str, Any]], scale: Sequence[str], **attrs: Any) -> xr.Dataset:
    """Ratings as a labelled array that `inflab.save` keeps.

    Args:
        rows: one a pair, with the names of `COLUMNS`; rating counts from 1 along the scale, None where there is none.
        scale: its words, from the least on.
        **attrs: further attributes of the root.

    Returns:
        Over `pair`: `rating` and `seconds` (NaN where there is none) and `note`, with `query`, `train`, `rater`.
    """
    column = {name: [row.get(name) for row in rows] for name in COLUMNS}
    numbers = {
        name: np.array([np.nan if v is None else v for v in column[name]], float) for name in ("rating", "seconds")
    }
    said = ", ".join(f"{i} {word}" for i, word in enumerate(scale, 1))
    return xr.Dataset(
        {
            "rating": ("pair", numbers["rating"], variable_attrs("relevance", "1", f"{said}; NaN: not rated")),
            "seconds": (
                "pair",
                numbers["seconds"],
                variable_attrs("time", "s", "time that the rater looked at the pair"),
            ),
            "note": ("pair", as_text(column["note"]), variable_attrs("note", "1", "what the rater wrote")),
        },
        coords={
            "pair": np.arange(len(rows)),
            **{name: ("pair", as_array(column[name])) for name in ("query", "train")},
            "rater": ("pair", as_text(column["rater"])),
        },
        attrs=root_attrs("ratings", scale=list(scale), **attrs),
    )


def check_ratings(found: pd.DataFrame, points: int) -> None:
    """Refuse ratings that are no place on a scale.

    Raises:
        SettingError: naming the first.
    """
    value = found["rating"].to_numpy(float)
    wrong = value[np.isfinite(value) & ~np.isin(value, np.arange(1, points + 1))]
    if len(wrong):
        raise SettingError(f"the rating {wrong[0]:g} is not on a scale of {points}; ratings count 1 to {points}")


def lists_of(lists: Any) -> dict[str, xr.Dataset]:
    """Ranked lists by the name of their method.

    Args:
        lists: a mapping from names to datasets over `(query, rank)` (`inflab.top`), one such, or an explanation, whose
            two lists count as two methods.

    Returns:
        Name -> dataset.

    Raises:
        SettingError: when it is something else.
        SchemaError: when a list lacks `train (query, rank)`.
    """
    if isinstance(lists, xr.DataTree) and lists.attrs.get("kind") == "explanation":
        name = str(lists.attrs.get("method", "influence"))
        lists = {
            f"{name}, {sign}": lists[one].to_dataset() for sign, one in (("positive", "top"), ("negative", "bottom"))
        }
    elif isinstance(lists, xr.Dataset):
        lists = {str(lists.attrs.get("method", "list")): lists}
    if not isinstance(lists, Mapping) or not lists:
        raise SettingError(
            f"lists is a {type(lists).__name__}; give {{name: inflab.top(scores, k)}}, or an explanation"
        )
    for name, one in lists.items():
        if not isinstance(one, xr.Dataset) or "train" not in one or set(one["train"].dims) != {"query", "rank"}:
            raise SchemaError([f"/: list {name!r} has no `train (query, rank)`; make it with inflab.top(scores, k)"])
    return {str(name): one for name, one in lists.items()}


def is_ranked(one: xr.Dataset) -> np.ndarray:
    """`(query, rank)`: False where fewer sequences than ranks have the sign."""
    if "is_ranked" not in one:
        return np.ones((one.sizes["query"], one.sizes["rank"]), bool)
    found: np.ndarray = one["is_ranked"].transpose("query", "rank").to_numpy().astype(bool)
    return found


def as_array(values: Sequence[Any]) -> np.ndarray:
    """Numbers as numbers, else objects: what zarr keeps of ids."""
    if values and all(isinstance(value, (int, float, np.number)) and not isinstance(value, bool) for value in values):
        return np.array(values)
    found = np.empty(len(values), dtype=object)
    found[:] = list(values)
    return found


def as_text(values: Sequence[Any]) -> np.ndarray:
    """Text, "" where there is none."""
    return np.array(["" if value is None else str(value) for value in values], dtype=object)
