"""What is rated, in which order, and what was said: pairs of several lists, without a word of where they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import CorpusError, SettingError, check_count
from inflab.ratings import check_ratings, frame, is_ranked, labelled, lists_of
from inflab.widgets.payload import clean
from inflab.widgets.picks import as_csv, as_markdown
from inflab.widgets.stepper import Queries

__all__ = ["Sheet"]

Pair = tuple[Any, Any]

_MOST_CHARACTERS = 20_000
_POINTS = (2, 9)  # as many as there are keys


class Sheet:
    """The pairs to rate, each once, in an order that the seed alone decides; answers the panel `rating`.

    The queries come in random order, and the training sequences of a query one after the other, in random order too.
    What is sent holds their texts alone: no method, score, rank, sign or id.

    Args:
        lists: `{method: inflab.top(...)}`, or an explanation.
        rater: who rates; None for the one of `ratings`.
        per_query: how many of each list.
        seed: of the order.
        scale: words, from the least relevant on.
        ratings: earlier ratings; what they rate is not asked again.
        on_change: called after each answer with the place shown and the number rated.

    Raises:
        SettingError: when a setting is outside its domain, or `ratings` are by someone else or on another scale.
        SchemaError: when lists or ratings lack what they need.
        CorpusError: when lists hold no text, nothing to rate, or `ratings` are of other pairs.
    """

    def __init__(
        self, lists: Any, *, rater: str | None, per_query: int, seed: int, scale: Iterable[str], ratings: Any = None,
        on_change: Callable[[int, int], None] = lambda place, rated: None,
    ) -> None:  # fmt: skip
        check_count("per_query", per_query)
        check_count("seed", seed, least=0)
        self.lists = lists_of(lists)
        self.scale = [] if isinstance(scale, str) else [clean(str(word)) for word in scale]
        least, most = _POINTS
        if not least <= len(self.scale) <= most or len({*self.scale}) < len(self.scale) or "" in self.scale:
            raise SettingError(f"scale={scale!r} must be {least} to {most} different words, from the least relevant on")
        self.per_query, self.seed, self._tell = int(per_query), int(seed), on_change
        self.texts = _texts(self.lists, self.per_query)
        if not self.texts:
            raise CorpusError("lists rank no sequence; give lists with at least one")
        self.given: dict[Pair, dict[str, Any]] = {}
        self._answered: set[Pair] = set()  # now: rated or skipped
        self.rater = clean(str(rater if rater is not None else "rater"))
        if ratings is not None:
            self._go_on(ratings, rater)
        self.order = [pair for pair in _shuffled(self.texts, self.seed) if not self._is_rated(pair)]

    def answers(self) -> dict[str, Callable[..., Any]]:
        """What the panel asks: "rating.open" (place), "rating.give" (place, rating, seconds, note), "rating.table"."""
        return {
            "rating.open": self.open,
            "rating.give": self.give,
            "rating.note": self.note,
            "rating.table": self.table,
        }

    @property
    def rated(self) -> int:
        """How many of the pairs have a rating."""
        return sum(self._is_rated(pair) for pair in self.texts)

    @property
    def start(self) -> int:
        """Where to begin: the first place without an answer."""
        return self._next(-1)

    def open(self, place: Any) -> dict[str, Any]:
        """The pair at a place; behind the last, none, and what remains.

        Args:
            place: from 0, of the pairs that were left at the beginning.

        Returns:
            What the browser shows.

        Raises:
            SettingError: when there is no such place.
        """
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place <= len(self.order):
            raise SettingError(f"position={place!r} must be a whole number from 0 to {len(self.order)}")
        skipped = [i for i, pair in enumerate(self.order) if pair in self._answered and not self._is_rated(pair)]
        said = self.given.get(self.order[place], {}) if place < len(self.order) else {}
        found = {
            "place": place,
            "total": len(self.order),
            "rated": self.rated,
            "of": len(self.texts),
            "skipped": skipped,
            "next": self._next(-1),
            "scale": self.scale,
            "pair": dict(self.texts[self.order[place]]) if place < len(self.order) else None,
            "rating": said.get("rating"),
            "note": said.get("note", ""),
        }
        self._tell(place, found["rated"])
        return found

    def give(self, place: int, rating: int | None, seconds: float | None = None, note: str = "") -> dict[str, Any]:
        """Take a rating, from 1 along the scale, or None to skip; gives what comes next.

        Returns:
            The next pair without an answer, as `open` gives it.

        Raises:
            SettingError: when there is no such place, or the rating is not on the scale.
        """
        pair = self._pair(place)
        points = range(1, len(self.scale) + 1)
        if rating is not None and (isinstance(rating, bool) or rating not in points):
            raise SettingError(f"rating={rating!r} is not on the scale; it counts from 1 to {len(self.scale)}")
        before = self.given.pop(pair, {})  # what is answered again counts as answered now
        self._answered.add(pair)
        time = (before.get("seconds") or 0) + (float(seconds) if seconds is not None else 0)
        self.given[pair] = {"rating": rating, "seconds": time or None, "note": clean(str(note))}
        return self.open(self._next(place))

    def note(self, place: int, note: str) -> bool:
        """Keep a note; it answers nothing."""
        self.given.setdefault(self._pair(place), {"rating": None, "seconds": None})["note"] = clean(str(note))
        return True

    def table(self, form: str = "csv") -> str:
        """What was rated as "csv" or "markdown"; texts that a spreadsheet would compute are made safe.

        Returns:
            The text.

        Raises:
            SettingError: when `form` is something else.
        """
        if form not in ("csv", "markdown"):
            raise SettingError(f"form={form!r} is not one of 'csv', 'markdown'")
        rows = [
            row
            | {"rating": "" if row["rating"] is None else f"{row['rating']:.0f}", "said": self.word(row["rating"])}
            | {"seconds": None if row["seconds"] is None else round(row["seconds"], 1)}
            for row in self.rows()
        ]
        columns = ["query", "train", "rating", "said", "rater", "seconds", "note"]
        found = pd.DataFrame(rows, columns=columns, dtype=object)
        found = found.where(found.notna(), None)
        return as_csv(found) if form == "csv" else as_markdown(found)

    def word(self, rating: float | None) -> str:
        """The word of a rating, "" for none."""
        return "" if rating is None else self.scale[int(rating) - 1]

    def rows(self) -> list[dict[str, Any]]:
        """What was said, in the order of saying; earlier ratings first."""
        return [{"query": q, "train": t, "rater": self.rater, **said} for (q, t), said in self.given.items()]

    def dataset(self) -> xr.Dataset:
        """The same as a labelled array (`inflab.save` keeps it)."""
        return labelled(self.rows(), self.scale, per_query=self.per_query, seed=self.seed)

    def _pair(self, place: Any) -> Pair:
        if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < len(self.order):
            raise SettingError(f"position={place!r} is no pair; there are {len(self.order)}, counted from 0")
        return self.order[place]

    def _is_rated(self, pair: Pair) -> bool:
        return self.given.get(pair, {}).get("rating") is not None

    def _next(self, place: int) -> int:
        """The first place after this one that has no answer, else the first before it, else behind the last."""
        n = len(self.order)
        turns = [*range(place + 1, n), *range(max(0, place + 1))]
        return next((i for i in turns if self.order[i] not in self._answered), n)

    def _go_on(self, ratings: Any, rater: str | None) -> None:
        table = frame(ratings)
        check_ratings(table, len(self.scale))
        before = None if isinstance(ratings, pd.DataFrame) else ratings.attrs.get("scale")
        if before is not None and list(before) != self.scale:
            raise SettingError(f"ratings are on the scale {list(before)}, scale is {self.scale}; give the same")
        names = sorted({name for name in table["rater"] if name})
        if len(names) > 1 or (names and rater is not None and names != [self.rater]):
            raise SettingError(f"ratings are by {names}, rater={rater!r}; go on with the ratings of one rater alone")
        self.rater = names[0] if names else self.rater
        for row in table.to_dict("records"):
            rating, seconds = (None if pd.isna(row[name]) else float(row[name]) for name in ("rating", "seconds"))
            self.given[row["query"], row["train"]] = {"rating": rating, "seconds": seconds, "note": row["note"]}
        if self.given and not self.given.keys() & self.texts.keys():
            (query, train), *_ = self.given
            raise CorpusError(
                f"ratings are of other pairs than lists, the first of query {query!r}, train {train!r}; give the lists "
                "that were rated"
            )


def _texts(lists: Mapping[str, xr.Dataset], per_query: int) -> dict[Pair, dict[str, str]]:
    """Text of each pair of the first ranks of any list, each once."""
    found: dict[Pair, dict[str, str]] = {}
    for name, one in lists.items():
        if "text" not in one.coords or set(one["text"].dims) != {"query", "rank"}:
            raise CorpusError(f"list {name!r} holds no texts to read; make it from a corpus with the coordinate `text`")
        ids, texts = (one[v].transpose("query", "rank").to_numpy()[:, :per_query].tolist() for v in ("train", "text"))
        is_there, queries = is_ranked(one)[:, :per_query], Queries(one)
        for i, query in enumerate(one["query"].to_numpy().tolist()):
            card = queries.card(i)
            for train, text, there in zip(ids[i], texts[i], is_there[i], strict=True):
                if there:
                    shown = {"text": clean(str(text)), "prompt": card["prompt"], "completion": card["completion"]}
                    found.setdefault((query, train), {k: _capped(v) for k, v in shown.items()})
    return found


def _capped(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _shuffled(pairs: Iterable[Pair], seed: int) -> list[Pair]:
    """Queries in random order, the sequences of each too: by the seed and the ids, whichever lists they come from."""
    rng, of_query = np.random.default_rng(seed), dict[Any, list[Pair]]()
    for pair in sorted(pairs, key=lambda one: (str(one[0]), str(one[1]))):
        of_query.setdefault(pair[0], []).append(pair)
    groups: Sequence[list[Pair]] = list(of_query.values())
    return [groups[q][i] for q in rng.permutation(len(groups)) for i in rng.permutation(len(groups[q]))]
