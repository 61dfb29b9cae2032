"""Agreement of two scores of the same sequences: lists, ranks, and over a batch of queries."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.effects import require
from inflab.errors import CorpusError, SettingError
from inflab.schema import root_attrs, variable_attrs
from inflab.widgets import rank_agreement as agree
from inflab.widgets.payload import clean, measure, plain, signed
from inflab.widgets.source import SIGNS
from inflab.widgets.stepper import Queries

__all__ = ["KS", "Comparing", "check_other", "checked_names", "is_fitted"]

KS = (10, 50, 100)  #: lengths of the lists compared
_MARKS = 1500  # of the scatter
_SNIPPET = 200
_PATIENCE = 0.25  # seconds of one answer about the batch
_STATIC_QUERIES, _STATIC_RANKS, _STATIC_CHARACTERS = 20, 3, 100


class Comparing:
    """Agreement of two scores, query by query and over the batch; answers the panel `compare`.

    Queries and training sequences are matched by id; only those of both count, and of them, for a query, those with a
    number in both.

    Args:
        a: scores, `influence (query, train[, layer])`, or an explanation that holds them.
        b: the other scores.
        names: what they are called.

    Raises:
        SettingError: when the names are not two different ones.
        SchemaError: when scores lack `influence` or its dims.
        CorpusError: when they have no query, or fewer than two training sequences in common, or an id twice.
    """

    def __init__(self, a: Any, b: Any, names: Sequence[str] = ("first", "second")) -> None:
        self.names = checked_names(names)
        self._scores = [_scores(one) for one in (a, b)]
        self._places = {dim: _common(self._scores, self.names, dim) for dim in ("query", "train")}
        first = self._scores[0]
        self.queries = Queries(first.drop_vars("influence").isel(query=self._places["query"][0]))
        self.ids: list[Any] = self.queries.ids
        self.train = first["train"].to_numpy()[self._places["train"][0]]
        self._text = self._texts()
        units = [measure(one.isel(query=[0], train=[0]))[1] for one in self._scores]
        self.units = ["no unit" if one == "1" else clean(one) for one in units]
        self.notes = self._notes()
        self._of = lru_cache(maxsize=32)(self._values)
        self._rows: dict[int, dict[str, Any]] = {}

    def answers(self) -> dict[str, Callable[..., Any]]:
        """What the panel asks: "compare.query" (position, k, sign) and "compare.batch" (start)."""
        return {"compare.query": self.query, "compare.batch": self.batch}

    def query(self, position: int, k: int = KS[0], sign: str = SIGNS[0]) -> dict[str, Any]:
        """One query: the two lists with the place of each sequence in the other, agreement, marks of the scatter.

        Args:
            position: among the common queries.
            k: length of the lists.
            sign: "positive" or "negative".

        Returns:
            What the browser shows.

        Raises:
            SettingError: when an argument is outside its domain.
        """
        if not 0 <= position < len(self.ids):
            raise SettingError(
                f"position={position} must lie between 0 and {len(self.ids) - 1}: both were asked these queries alone"
            )
        if sign not in SIGNS or k not in KS:
            raise SettingError(f"k={k!r}, sign={sign!r}: k is one of {KS}, sign one of {SIGNS}")
        values, which = self._of(position)
        places = [agree.places(value, sign) for value in values]
        lists = [agree.first(value, sign, k) for value in values]
        both, share = agree.overlap(*lists)
        n, lengths = len(which), [len(one) for one in lists]
        return {
            "position": position, "n_query": len(self.ids), "query": self.queries.card(position), "k": k, "sign": sign,
            "names": self.names, "units": self.units, "n": n, "n_common": len(self.train), "notes": self.notes,
            "spearman": agree.spearman(*values), "both": both, "overlap": share,
            "chance": min(lengths) / n if n and any(lengths) else None,
            "rbo": agree.rank_biased_overlap(lists[0], lists[1]),
            "lists": [self._items(lists[i], which, values, places, i) for i in (0, 1)],
            "scatter": self._scatter(values, places, lists, which, position),
        }  # fmt: skip

    def batch(self, start: int | None = None) -> dict[str, Any]:
        """Agreement of every query, at every length and sign.

        Args:
            start: from this query on, as far as a quarter of a second goes, so that others can ask meanwhile; None for
                all of them, however long it takes.

        Returns:
            `queries`, from `start` on: id, label, spearman, and by sign `overlap` (by k) and `rbo`; names, `n_query`.
        """
        begun, found = time.monotonic(), []
        for position in range(start or 0, len(self.ids)):
            if position not in self._rows:
                self._rows[position] = self._agreement(position)
            found.append(self._rows[position])
            if start is not None and time.monotonic() - begun > _PATIENCE:
                break
        return {"names": self.names, "n_query": len(self.ids), "queries": found}

    def dataset(self) -> xr.Dataset:
        """The same as labelled arrays: over `query`, `spearman`; and over `(query, group, rank)`, by sign and k."""
        rows = self.batch()["queries"]
        overlap_qgk = [[[row[sign]["overlap"][str(k)] for k in KS] for sign in SIGNS] for row in rows]
        coords = {"query": np.array(self.ids, dtype=object), "group": np.array(SIGNS, dtype=object), "rank": list(KS)}
        about = variable_attrs("overlap of the first ranks", "1", "members of both lists as a share of the longer one")
        rbo = variable_attrs("rank-biased overlap", "1", f"p = {agree.P}, of the first {KS[-1]}")
        return xr.Dataset(
            {
                "spearman": (
                    "query", [row["spearman"] for row in rows],
                    variable_attrs("rank correlation", "1", "Spearman's, over all sequences with a number in both"),
                ),
                "overlap": (("query", "group", "rank"), np.array(overlap_qgk, float), about),
                "rbo": (("query", "group"), np.array([[row[s]["rbo"] for s in SIGNS] for row in rows], float), rbo),
            },
            coords=coords,
            attrs={**root_attrs("rank_agreement"), "names": self.names},
        )  # fmt: skip

    def _agreement(self, position: int) -> dict[str, Any]:
        values, _ = self._of(position)
        card = self.queries.card(position)
        found: dict[str, Any] = {
            "id": card["id"],
            "label": f"{card['prompt']}{card['completion']}"[-80:],
            "spearman": agree.spearman(*values),
        }
        for sign in SIGNS:
            longest = [agree.first(value, sign, KS[-1]) for value in values]
            lists = {k: [one[:k] for one in longest] for k in KS}
            found[sign] = {
                "overlap": {str(k): agree.overlap(*two)[1] for k, two in lists.items()},
                "rbo": agree.rank_biased_overlap(lists[KS[-1]][0], lists[KS[-1]][1]),
            }
        return found

    def _values(self, position: int) -> tuple[list[np.ndarray], np.ndarray]:
        """The two scores of a query, where both have a number, and which of the common sequences these are."""
        found = []
        for i, one in enumerate(self._scores):
            value, _ = measure(one.isel(query=[self._places["query"][i][position]]))
            found.append(value.transpose("query", "train").to_numpy()[0, self._places["train"][i]].astype(np.float64))
        which = np.flatnonzero(np.isfinite(found[0]) & np.isfinite(found[1]))
        return [one[which] for one in found], which

    def _items(
        self, chosen: np.ndarray, which: np.ndarray, values: list[np.ndarray], places: list[np.ndarray], i: int
    ) -> list[dict[str, Any]]:
        return [
            {
                "train": plain(self.train[which[one]]),
                "rank": int(places[i][one]),
                "other": int(places[1 - i][one]),
                "value": float(values[i][one]),
                "other_value": float(values[1 - i][one]),
                "text": clean(str(self._text[which[one]])[:_SNIPPET]),
            }
            for one in chosen.tolist()
        ]

    def _scatter(
        self, values: list[np.ndarray], places: list[np.ndarray], lists: list[np.ndarray], which: np.ndarray, seed: int
    ) -> dict[str, Any]:
        """Marks: the tops of both signs on both sides, and of the rest a random part."""
        n = len(which)
        tops = [(place <= KS[-1]) | (place > n - KS[-1]) for place in places]
        chosen = agree.thinned(n, np.flatnonzero(tops[0] | tops[1]), _MARKS, seed)
        group = np.isin(chosen, lists[0]) + 2 * np.isin(chosen, lists[1])
        return {
            "of": n,
            "train": [plain(one) for one in self.train[which[chosen]]],
            "value": [value[chosen] for value in values],
            "rank": [place[chosen] for place in places],
            "group": group,
        }

    def _texts(self) -> np.ndarray:
        for one, place in zip(self._scores, self._places["train"], strict=True):
            if "text" in one.coords and one["text"].dims == ("train",):
                found: np.ndarray = one["text"].to_numpy()[place]
                return found
        return np.full(len(self.train), "", dtype=object)

    def _notes(self) -> list[str]:
        """What a reader must know of how the two were put side by side."""
        notes = []
        for dim, called in (("query", "queries"), ("train", "training sequences")):
            common = len(self._places[dim][0])
            sizes = [one.sizes[dim] for one in self._scores]
            if sizes != [common, common]:
                has = " and ".join(f"{size:,} of {name}" for size, name in zip(sizes, self.names, strict=True))
                notes.append(f"{common:,} {called} are in both, out of {has}; the others are left out.")
        if self.units[0] != self.units[1]:
            has = "; ".join(f"{name}: {units}" for name, units in zip(self.names, self.units, strict=True))
            notes.append(f"Different units ({has}): compare ranks, not sizes.")
        for coord, dim in (("text", "train"), ("query_text", "query")):
            if all(coord in one.coords and one[coord].dims == (dim,) for one in self._scores):
                a, b = (one[coord].to_numpy()[self._places[dim][i]] for i, one in enumerate(self._scores))
                if differ := int((a != b).sum()):
                    notes.append(f"{differ:,} of the matched {dim} ids have another text on either side.")
        return notes

    def as_html(self) -> str:
        """A table of the first queries: agreement, and the first of the two lists. All text escaped."""
        shown = min(len(self.ids), _STATIC_QUERIES)
        heads = ["query", "Spearman", f"first {KS[0]} in both", *(f"{name}, most positive" for name in self.names)]
        head = "".join(f'<th scope="col">{escape(one)}</th>' for one in heads)
        rest = f" The first {shown} of {len(self.ids)} queries." if shown < len(self.ids) else ""
        caption = escape(
            f"{self.names[0]} beside {self.names[1]}: agreement of their ranks.{rest} {' '.join(self.notes)}"
        )
        return (
            f'<table class="inflab-compare-static"><caption style="text-align:left">{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(self._row, range(shown)))}</tbody></table>"
        )

    def _row(self, position: int) -> str:
        found = self.query(position)
        asked = escape(_short(found["query"]["prompt"] + found["query"]["completion"]) or str(found["query"]["id"]))
        lists = [
            "<br>".join(
                f"<b>{signed(item['value'])}</b> <i>{escape(str(item['train']))}</i> {escape(_short(item['text']))}"
                for item in items[:_STATIC_RANKS]
            )
            or "none"
            for items in found["lists"]
        ]
        cells = [signed(found["spearman"]), f"{found['both']}", *lists]
        style = 'style="text-align:left;vertical-align:top"'
        return f'<tr><th scope="row" {style}>{asked}</th>{"".join(f"<td {style}>{one}</td>" for one in cells)}</tr>'


def checked_names(names: Any) -> list[str]:
    """What two sides are called; refuses what is not two different names."""
    is_some = isinstance(names, Iterable) and not isinstance(names, (str, bytes))
    found = [clean(str(name)) for name in names] if is_some else []
    if len(found) != 2 or len({*found}) != 2 or "" in found:
        raise SettingError(f"names={names!r} must be two different names, such as ('EK-FAC', 'dot product')")
    return found


def is_fitted(other: Any) -> bool:
    """Whether it can be asked for scores."""
    return callable(getattr(other, "score", None))


def check_other(other: Any) -> None:
    """Refuse what cannot be held against scores, before anything is scored.

    Raises:
        SettingError: when it is neither a fitted method nor arrays.
        SchemaError: when scores lack `influence` or its dims.
    """
    if is_fitted(other):
        return
    if not isinstance(other, (xr.Dataset, xr.DataTree)):
        raise SettingError(
            f"compare is a {type(other).__name__}; give another fitted Influence, its scores, or a saved explanation"
        )
    _scores(other)


def _scores(one: Any) -> xr.Dataset:
    if isinstance(one, xr.DataTree):
        one = one["scores"].to_dataset() if "scores" in one.children else one.to_dataset()
    require(one, "influence", "query", "train")
    found: xr.Dataset = one
    if "layer" in found["influence"].dims:
        found = found.assign(influence=found["influence"].sum("layer", keep_attrs=True)).drop_dims("layer")
    return found


def _common(scores: list[xr.Dataset], names: list[str], dim: str) -> list[np.ndarray]:
    """Positions in either of the ids that both have, in the order of the first."""
    ids = [pd.Index(one[dim].to_numpy().tolist(), dtype=object) for one in scores]
    for one, name in zip(ids, names, strict=True):
        if not one.is_unique:
            raise CorpusError(f"{name} has the {dim} id {one[one.duplicated()][0]!r} twice; ids must differ")
    place = ids[1].get_indexer(ids[0])
    found = np.flatnonzero(place >= 0)
    least = 2 if dim == "train" else 1
    if len(found) < least:
        shown = [", ".join(repr(i) for i in one[:3]) for one in ids]
        raise CorpusError(
            f"{len(found)} {dim} ids are in both, at least {least} must be: {names[0]} has {shown[0]} …, {names[1]} "
            f"has {shown[1]} …; score the same queries and training sequences, under the same ids"
        )
    return [found, np.asarray(place[found])]


def _short(text: str) -> str:
    return text if len(text) <= _STATIC_CHARACTERS else text[: _STATIC_CHARACTERS - 1] + "…"
