"""Blind rating of relevance: one query with one training sequence at a time, nothing said of where it comes from."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import traitlets
import xarray as xr

from inflab.relevance import relevance
from inflab.widgets.base import Part
from inflab.widgets.rating_sheet import Sheet

__all__ = ["SCALE", "Rating", "Sheet"]

SCALE = ("not relevant", "somewhat", "relevant")
_STATIC_ROWS, _STATIC_CHARACTERS = 50, 120


class Rating(Part):
    """Rate how relevant training sequences are to queries, without seeing method, score, rank, sign or id.

    A sequence that several lists hold is shown once. The order depends on the seed alone, so that two raters see the
    same. Rating can be broken off at any time: `ratings` is what was said so far, and `Rating(..., ratings=earlier)`
    goes on with what is left.

    Args:
        lists: `{method: inflab.top(scores, k)}`, or an explanation, of which both lists are rated.
        rater: who rates; None for the rater of `ratings`, or "rater".
        per_query: how many of each list and query.
        seed: of the order.
        scale: 2 to 9 words, from the least relevant on; rating 1 is the first.
        ratings: earlier ratings, a dataset or a data frame with query, train, rating.

    Raises:
        SettingError: when a setting is outside its domain, or `ratings` are by another rater or on another scale.
        SchemaError: when lists or ratings lack what they need.
        CorpusError: when lists hold no text, or `ratings` are of other pairs.

    Example:
        >>> few = inflab.BM25().fit(problem).score(queries)
        >>> rating = inflab.widgets.Rating({"EK-FAC": inflab.top(scores, 5), "BM25": inflab.top(few, 5)}, rater="Ann")
        >>> rating.rated, sorted(rating.ratings)
        (0, ['note', 'rating', 'seconds'])
    """

    part = "rating"

    position = traitlets.Int(0).tag(sync=True)
    """Which pair is shown, counted from 0 among those left at the beginning; their number when all are done. `int`,
    default the first without an answer."""

    rated = traitlets.Int(0, read_only=True).tag(sync=True)
    """How many pairs have a rating, earlier ones too. `int`; observe it to save as you go."""

    def __init__(
        self, lists: Any, *, rater: str | None = None, per_query: int = 5, seed: int = 0, scale: Iterable[str] = SCALE,
        ratings: Any = None,
    ) -> None:  # fmt: skip
        self._sheet = Sheet(
            lists, rater=rater, per_query=per_query, seed=seed, scale=scale, ratings=ratings, on_change=self._follow
        )
        super().__init__(self._sheet.answers(), position=self._sheet.start)
        self.set_trait("rated", self._sheet.rated)

    @property
    def ratings(self) -> xr.Dataset:
        """What was said so far, over `pair`, with `query`, `train`, `rater`.

        `rating` counts from 1 along the scale and is NaN where a pair was skipped; beside it `seconds` and `note`.
        """
        return self._sheet.dataset()

    def relevance(self, **settings: Any) -> xr.Dataset:
        """Unblind: mean rating and precision at k of each method, with intervals (`inflab.relevance.relevance`)."""
        return relevance(self.ratings, self._sheet.lists, **settings)

    def ratings_csv(self) -> str:
        """The ratings as CSV. A text that begins like a formula (=, +, -, @, tab) gets an apostrophe in front."""
        return self._sheet.table("csv")

    def ratings_markdown(self) -> str:
        """The ratings as a markdown table; markup in notes stays text."""
        return self._sheet.table("markdown")

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        position, last = int(proposal["value"]), len(self._sheet.order)
        if not 0 <= position <= last:
            raise traitlets.TraitError(f"position={position} must lie between 0 and {last}")
        return position

    def _follow(self, place: int, rated: int) -> None:
        self.position = place
        self.set_trait("rated", rated)

    def _as_html(self) -> str:
        """A table of what was rated. All text escaped."""
        sheet = self._sheet
        rows = [
            row for row in sheet.rows() if row["rating"] is not None and (row["query"], row["train"]) in sheet.texts
        ]
        caption = f"Relevance as rated by {sheet.rater}: {len(rows)} of {len(sheet.texts)} pairs."
        if len(rows) > _STATIC_ROWS:
            caption += f" The last {_STATIC_ROWS}."
        body = "".join(map(self._row, rows[-_STATIC_ROWS:]))
        head = "".join(f'<th scope="col">{name}</th>' for name in ("query", "training sequence", "rating", "note"))
        return (
            f'<table class="inflab-rating-static"><caption style="text-align:left">{escape(caption)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        )

    def _row(self, row: dict[str, Any]) -> str:
        shown = self._sheet.texts[row["query"], row["train"]]
        said = f"{row['rating']:.0f} {self._sheet.word(row['rating'])}"
        cells = [_short(shown["prompt"] + shown["completion"]), _short(shown["text"]), said, _short(row["note"])]
        return "<tr>" + "".join(f'<td style="text-align:left">{escape(cell)}</td>' for cell in cells) + "</tr>"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": self._as_html()}, metadata

    def __repr__(self) -> str:
        return f"Rating({self._sheet.rater!r}, {self.rated} of {len(self._sheet.texts)} pairs rated)"


def _short(text: str) -> str:
    return text if len(text) <= _STATIC_CHARACTERS else text[: _STATIC_CHARACTERS - 1] + "…"
