"""What came with the training corpus: ids, texts, labels; which sequences have a label or hold a word."""

from __future__ import annotations

from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import xarray as xr

from inflab.errors import SettingError
from inflab.widgets.finding import Texts
from inflab.widgets.payload import clean, plain

__all__ = ["Columns"]

_NO_METADATA = {"train", "text"}
_MOST_VALUES = 24  # a label with more values is no filter to tick


class Columns:
    """The coordinates over `train`, read when they are first needed and kept.

    Args:
        scores: a dataset over `train`.
    """

    def __init__(self, scores: xr.Dataset) -> None:
        self._coords = {
            str(name): coord
            for name, coord in sorted(scores.coords.items(), key=lambda pair: str(pair[0]))  # a store keeps no order
            if coord.dims == ("train",)
        }
        self._n_train = scores.sizes["train"]
        self.matching = lru_cache(maxsize=16)(self._match)

    @property
    def has_text(self) -> bool:
        """Whether the corpus holds texts."""
        return "text" in self._coords

    @cached_property
    def trains(self) -> list[Any]:
        """Ids, as JSON holds them."""
        ids = self._coords["train"].to_numpy() if "train" in self._coords else np.arange(self._n_train)
        return [plain(one) for one in ids.tolist()]

    @cached_property
    def place_of(self) -> dict[Any, int]:
        """Id -> its place."""
        return {train: place for place, train in enumerate(self.trains)}

    @cached_property
    def texts(self) -> list[str]:
        """Texts; "" where the corpus holds none."""
        if not self.has_text:
            return [""] * self._n_train
        return [clean(str(text)) for text in self._coords["text"].to_numpy()]

    @cached_property
    def meta(self) -> dict[str, np.ndarray]:
        """Every other label."""
        return {clean(name): c.to_numpy() for name, c in self._coords.items() if name not in _NO_METADATA}

    def meta_of(self, place: int) -> dict[str, Any]:
        """The labels of one sequence, as JSON holds them."""
        return {name: plain(column[place]) for name, column in self.meta.items()}

    def facets(self) -> list[dict[str, Any]]:
        """Labels to filter by: those of at most 24 values that are shared by sequences.

        Returns:
            `name` and `values` of each: a `value`, and the `count` of training sequences that have it, largest first.
        """
        found = []
        for name, (values, code_t) in self._codes.items():
            count = np.bincount(code_t, minlength=len(values)).tolist()
            ordered = sorted(zip(values, count, strict=True), key=lambda pair: (-pair[1], str(pair[0])))
            found.append({"name": name, "values": [{"value": value, "count": many} for value, many in ordered]})
        return found

    def _match(self, text: str, facets: tuple[tuple[str, tuple[Any, ...]], ...]) -> np.ndarray:
        """Which sequences hold every word of `text` (or have it as their id), and one of the values of each facet."""
        keep_t = np.ones(self._n_train, bool)
        for name, values in facets:
            if name not in self._codes:
                raise SettingError(f"facets: {name!r} is no label with few values; there are {sorted(self._codes)}")
            known, code_t = self._codes[name]
            keep_t &= np.isin(code_t, [code for code, value in enumerate(known) if value in values])
        if text:
            keep_t &= self._searched.matching(text) | np.array([str(one) == text for one in self.trains], bool)
        return keep_t

    @cached_property
    def _codes(self) -> dict[str, tuple[list[Any], np.ndarray]]:
        """Labels with few values -> those values, and which of them each sequence has."""
        found = {}
        for name, column in self.meta.items():
            known: dict[Any, int] = {}
            code_t = np.empty(len(column), np.int32)
            for place, value in enumerate(column):
                code_t[place] = known.setdefault(plain(value), len(known))
                if len(known) > _MOST_VALUES:
                    break
            else:
                if 1 < len(known) <= max(1, len(column) // 2):
                    found[name] = (list(known), code_t)
        return found

    @cached_property
    def _searched(self) -> Texts:
        return Texts(self.texts)
