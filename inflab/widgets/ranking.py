"""The order of all training sequences for one query: windows of it, filters, the scores' histogram."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import xarray as xr

from inflab.effects import predicts
from inflab.errors import SettingError
from inflab.widgets.columns import Columns
from inflab.widgets.finding import snippet
from inflab.widgets.payload import SNIPPET, UNITS, plain
from inflab.widgets.source import SIGNS, Sign

__all__ = ["Filter", "Ranking", "Rescored", "Scored"]

#: Influence on one query over all of `train`, at another damping and of chosen layers (None: as fitted, all).
Rescored = Callable[[int, float | None, tuple[str, ...] | None], Any]

_WINDOW = 200  # items answered at once


class Scored(Protocol):
    """What is ranked: a `source.Source`, or scores alone.

    Attributes:
        ids: of the queries, in order.
    """

    ids: list[Any]

    @property
    def scores(self) -> xr.Dataset:
        """`influence (query, train)` with the coordinates of both corpora; may be lazy."""

    def by_layer(self, position: int) -> xr.DataArray:
        """Influence on one query over `(train, layer)`."""


@dataclass(frozen=True)
class Filter:
    """Which sequences are shown, and by which scores they are ranked.

    Attributes:
        text: words that must occur in the text, or its id.
        facets: name of a label -> values kept.
        low: smallest effect shown, or None.
        high: effects shown lie below it, or None.
        layers: whose influence is summed; None for all.
        damping: other than the one fitted with; None for that.
    """

    text: str = ""
    facets: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    low: float | None = None
    high: float | None = None
    layers: tuple[str, ...] | None = None
    damping: float | None = None

    @classmethod
    def of(
        cls, *, text: str = "", facets: Mapping[str, Iterable[Any]] | None = None, layers: Any = None, **others: Any
    ) -> Filter:
        """From what JSON holds: lists for tuples, an empty list of values for no filter.

        Returns:
            The filter.

        Raises:
            SettingError: naming what no filter has.
        """
        unknown = set(others) - {field.name for field in fields(cls)}
        if unknown:
            raise SettingError(
                f"no filter is called {sorted(unknown)[0]!r}; there are text, facets, low, high, layers, damping"
            )
        chosen = tuple((name, tuple(values)) for name, values in sorted((facets or {}).items()) if values)
        return cls(text.strip(), chosen, layers=None if layers is None else tuple(map(str, layers)), **others)


@dataclass(frozen=True)
class _Order:
    """All sequences of one query: values as read, values of influence, and per sign who comes first."""

    value_t: np.ndarray
    influence_t: np.ndarray
    places: dict[Sign, np.ndarray]
    totals: dict[Sign, float]
    most: float


class Ranking:
    """Ranks all training sequences of a query, one sign at a time, as `inflab.top` does; NaN is left out.

    A rank is a place in the whole list of its sign: no filter changes it. What was ranked or filtered lately is kept,
    so that the next window of it costs a millisecond.

    Args:
        source: `scores`, `ids`, and `by_layer` where layers may be chosen.
        rescored: gives other scores of a query, for another damping; None where there are none.
    """

    def __init__(self, source: Scored, rescored: Rescored | None = None) -> None:
        self._source, self._rescored = source, rescored
        self._scores, self._n_query = source.scores, len(source.ids)
        self.predicts = predicts(self._scores)
        self.units = UNITS if self.predicts else str(self._scores["influence"].attrs.get("units", "1"))
        n_train = int(self._scores.attrs.get("n_train", self._scores.sizes["train"]))
        self._scale = 1 / n_train if self.predicts else 1.0
        self._order = lru_cache(maxsize=32)(self._rank)
        self._kept = lru_cache(maxsize=64)(self._filter)
        self.columns = Columns(self._scores)

    @property
    def scores(self) -> xr.Dataset:
        """Of the source, which may have been asked more queries since."""
        if len(self._source.ids) != self._n_query:
            self._scores, self._n_query = self._source.scores, len(self._source.ids)
        return self._scores

    @property
    def ids(self) -> list[Any]:
        """Of the queries, as JSON holds them."""
        return [plain(one) for one in self._source.ids]

    def window(
        self, position: int, sign: Sign, offset: int = 0, count: int = 60, kept: Filter | None = None
    ) -> dict[str, Any]:
        """Some of a query's list, in order.

        Args:
            position: of the query.
            sign: of the list.
            offset: place of the first item in the filtered list, counted from 0.
            count: items.
            kept: the filter.

        Returns:
            `total` items after the filter out of `of`, the `share` of the sign's total they hold; `items`; `most`, the
            largest size of either sign before the filter; `units` and `predicts`, whether values are nats a copy.
        """
        kept = kept or Filter()
        order, (rank_i, share) = self._ranked(position, kept), self.kept(position, sign, kept)
        shown = rank_i[max(0, offset) : max(0, offset) + min(count, _WINDOW)]
        return {
            "query": plain(self._source.ids[position]), "sign": sign, "offset": offset, "total": len(rank_i),
            "of": len(order.places[sign]), "share": plain(share), "most": plain(order.most), "units": self.units,
            "predicts": self.predicts, "items": [self._item(order, sign, int(rank), kept.text) for rank in shown],
        }  # fmt: skip

    def kept(self, position: int, sign: Sign, kept: Filter) -> tuple[np.ndarray, float]:
        """Ranks that a filter leaves, counted from 1, and the share of the sign's total that they hold.

        Args:
            position: of the query.
            sign: of the list.
            kept: the filter.

        Returns:
            Ranks in order, and the share.

        Raises:
            SettingError: when there is no such query or sign.
        """
        if sign not in SIGNS:
            raise SettingError(f"sign={sign!r} is not one of {SIGNS}")
        found: tuple[np.ndarray, float] = self._kept(self._checked(position), sign, kept)
        return found

    def places(self, position: int, sign: Sign, kept: Filter) -> np.ndarray:
        """Places in the corpus of what a filter leaves, in order."""
        ranks, _ = self.kept(position, sign, kept)
        found: np.ndarray = self._ranked(position, kept).places[sign][ranks - 1]
        return found

    def values(self, position: int, kept: Filter) -> np.ndarray:
        """Values of all training sequences that match, of both signs; the range is not applied, NaN not left out."""
        order = self._ranked(position, kept)
        found: np.ndarray = order.value_t[self.columns.matching(kept.text, kept.facets)]
        return found

    def look_up(self, position: int, train: Any, whole: bool = False) -> dict[str, Any]:
        """One sequence of one query as it stands in its list, unfiltered, by the scores as they were fitted.

        Args:
            position: of the query.
            train: its id.
            whole: with all of its text.

        Returns:
            An item with its `sign`; `rank` and `sign` are None where it has no influence.

        Raises:
            SettingError: when there is no such sequence.
        """
        if train not in self.columns.place_of:
            raise SettingError(f"train={train!r} is not an id of the training corpus")
        order, place = self._ranked(position, Filter()), self.columns.place_of[train]
        for sign in SIGNS:
            found = np.flatnonzero(order.places[sign] == place)
            if len(found):
                item = {**self._item(order, sign, int(found[0]) + 1, ""), "sign": sign}
                return {**item, "text": self.columns.texts[place]} if whole else item
        text = self.columns.texts[place] if whole else snippet(self.columns.texts[place], "", SNIPPET)
        value = plain(float(order.value_t[place]))
        return {"rank": None, "sign": None, "train": train, "effect": value, "share": None, "text": text,
                "meta": self.columns.meta_of(place), "influence": plain(float(order.influence_t[place]))}  # fmt: skip

    def _item(self, order: _Order, sign: Sign, rank: int, text: str) -> dict[str, Any]:
        place = int(order.places[sign][rank - 1])
        influence = float(order.influence_t[place])
        return {
            "rank": rank,
            "train": self.columns.trains[place],
            "effect": plain(float(order.value_t[place])),
            "influence": plain(influence),
            "share": plain(abs(influence) / order.totals[sign]),
            "text": snippet(self.columns.texts[place], text, SNIPPET),
            "meta": self.columns.meta_of(place),
        }

    def _checked(self, position: Any) -> int:
        if not isinstance(position, int) or not 0 <= position < len(self._source.ids):
            raise SettingError(f"position={position!r} must lie between 0 and {len(self._source.ids) - 1}")
        return position

    def _ranked(self, position: int, kept: Filter) -> _Order:
        return self._order(self._checked(position), kept.layers, kept.damping)

    def _rank(self, position: int, layers: tuple[str, ...] | None, damping: float | None) -> _Order:
        influence_t = self._influence(position, layers, damping)
        places, totals = {}, {}
        for sign, sized_t in zip(SIGNS, (influence_t, -influence_t), strict=True):
            here = np.flatnonzero(sized_t > 0)  # NaN is not
            # Ties are broken by position, as in inflab.top.
            places[sign] = here[np.argsort(-sized_t[here], kind="stable")].astype(np.int32)
            totals[sign] = float(sized_t[here].sum())
        value_t = influence_t * self._scale
        ends = [abs(value_t[place[0]]) for place in places.values() if len(place)]
        return _Order(value_t, influence_t, places, totals, float(max(ends, default=0.0)))

    def _influence(self, position: int, layers: tuple[str, ...] | None, damping: float | None) -> np.ndarray:
        """One query's row alone: the scores may be larger than memory."""
        found: Any
        if damping is not None:
            if self._rescored is None:
                raise SettingError(f"damping={damping!r}: these scores were saved at one damping; open an Influence")
            found = self._rescored(position, damping, layers)
        elif layers is None:
            found = self.scores["influence"].isel(query=position)
        else:
            by_layer = self._source.by_layer(position)
            known = {str(name) for name in by_layer["layer"].to_numpy()}
            lost = [name for name in layers if name not in known]
            if lost:
                raise SettingError(f"layers: {lost[0]!r} is not among the {len(known)} layers scored")
            found = by_layer.sel(layer=list(layers)).sum("layer", skipna=False)
        return np.asarray(found, dtype=np.float64)

    def _filter(self, position: int, sign: Sign, kept: Filter) -> tuple[np.ndarray, float]:
        order = self._ranked(position, kept)
        place_r = order.places[sign]
        keep_r = self.columns.matching(kept.text, kept.facets)[place_r]
        value_r = order.value_t[place_r]
        if kept.low is not None:
            keep_r = keep_r & (value_r >= kept.low)
        if kept.high is not None:
            keep_r = keep_r & (value_r < kept.high)
        held = float(np.abs(order.influence_t[place_r[keep_r]]).sum())
        return np.flatnonzero(keep_r) + 1, held / order.totals[sign] if order.totals[sign] else 0.0
