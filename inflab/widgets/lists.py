"""What the lists of the Explorer ask: windows, the histogram, words, labels, picks, search in the queries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from inflab.widgets.bins import signed_bins
from inflab.widgets.payload import plain
from inflab.widgets.ranking import Filter, Ranking, Rescored, Scored
from inflab.widgets.source import SIGNS, Sign
from inflab.widgets.stepper import Queries
from inflab.wording import Wordbook

__all__ = ["Lists"]

FIRST = 60  # items of each sign on first paint
_COUNTED = 5_000  # texts whose words are counted: the reader waits


class Lists:
    """Answers the questions of `widgets/sequence_list.js` and `widgets/stepper.js`.

    Args:
        source: the scores.
        rescored: gives other scores of a query, for another damping (see `ranking.Rescored`).
    """

    def __init__(self, source: Scored, rescored: Rescored | None = None) -> None:
        self._source = source
        self.ranking = Ranking(source, rescored)
        self._queries = Queries(self.ranking.scores)

    @property
    def queries(self) -> Queries:
        """Texts and labels of the queries, those asked since included."""
        if len(self._queries) != len(self._source.ids):
            self._queries = Queries(self.ranking.scores)
        return self._queries

    def answers(self) -> dict[str, Callable[..., Any]]:
        """Kind of question -> what answers it."""
        return {
            "list.window": self.window,
            "list.histogram": self.histogram,
            "list.words": self.words,
            "list.facets": self.ranking.columns.facets,
            "list.picks": self.picks,
            "query.search": self.search,
        }

    def page(self, position: int, kept: Filter | None = None) -> dict[str, Any]:
        """What the first paint of a query needs: its card, and the first window of both lists.

        Args:
            position: of the query.
            kept: by which scores it is ranked.

        Returns:
            `position`, `query`, and `positive`, `negative` as `Ranking.window` gives them.
        """
        lists: dict[str, Any] = {sign: self.ranking.window(position, sign, 0, FIRST, kept) for sign in SIGNS}
        return {"position": position, "query": self.queries.card(position), **lists}

    def search(self, text: str) -> dict[str, Any]:
        """Queries that hold every word of `text` (see `Queries.search`)."""
        return self.queries.search(text)

    def window(self, position: int, sign: Sign, offset: int = 0, count: int = FIRST, **filters: Any) -> dict[str, Any]:
        """Some of a list, in order (see `Ranking.window`); `filters` as of `Filter`."""
        return self.ranking.window(position, sign, offset, count, Filter.of(**filters))

    def histogram(self, position: int, **filters: Any) -> dict[str, Any]:
        """Values over all of the training set that match (see `signed_bins`), with their `units`; no range applies."""
        kept = Filter.of(**{name: value for name, value in filters.items() if name not in ("low", "high")})
        found = signed_bins(self.ranking.values(position, kept))
        return {**found, "units": self.ranking.units, "predicts": self.ranking.predicts}

    def words(self, position: int, sign: Sign, k: int = 50, n: int = 10, **filters: Any) -> dict[str, Any]:
        """Words that distinguish the first `k` of a list from the rest of the corpus (see `distinctive_words`).

        Args:
            position: of the query.
            sign: of the list.
            k: sequences.
            n: words.
            **filters: as of `Filter`.

        Returns:
            `words`, each with `word`, `z`, `count`, `count_rest`; `k` sequences held against `documents` texts.
        """
        if not self.ranking.columns.has_text:
            return {"words": [], "k": 0, "documents": 0}
        places = self.ranking.places(position, sign, Filter.of(**filters))[: max(0, k)]
        frame = self._book.distinguish(places.tolist(), n) if len(places) else None
        found = [] if frame is None else frame[["word", "z", "count", "count_rest"]].to_dict("records")
        return {"words": found, "k": len(places), "documents": self._book.documents}

    def picks(self, picks: Iterable[Mapping[str, Any]], whole: bool = False) -> list[dict[str, Any]]:
        """Picked sequences with what is known of them.

        Args:
            picks: each `query` and `train` (ids) and `note`.
            whole: with all of their texts.

        Returns:
            Items (see `Ranking.window`) with `sign`, `query`, `position`, `note`.
        """
        position_of = {query: position for position, query in enumerate(self.ranking.ids)}
        rows = []
        for pick in picks:
            query = plain(pick["query"])
            if query not in position_of:
                continue  # of another batch
            item = self.ranking.look_up(position_of[query], plain(pick["train"]), whole)
            rows.append({"query": query, "position": position_of[query], **item, "note": str(pick.get("note", ""))})
        return rows

    @cached_property
    def _book(self) -> Wordbook:
        return Wordbook(self.ranking.columns.texts, documents=_COUNTED)
