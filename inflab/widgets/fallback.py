"""The static view of a widget, where widgets do not run (nbconvert, GitHub, untrusted notebooks). All text escaped."""

from __future__ import annotations

from html import escape
from typing import Any

from inflab.widgets import payload
from inflab.widgets.lists import Lists
from inflab.widgets.source import SIGNS, Sign

__all__ = ["as_html"]

MOST_QUERIES, MOST_RANKS, MOST_CHARACTERS = 20, 3, 120
_HEADINGS: dict[Sign, str] = {"positive": "made it more likely", "negative": "made it less likely"}


def as_html(lists: Lists, about: dict[str, Any]) -> str:
    """A table of the first queries with the strongest training sequences of each.

    Args:
        lists: rank the sequences.
        about: what holds for all queries: `n_query`, `n_train`, `method`, `units`.

    Returns:
        The table.
    """
    shown = range(min(about["n_query"], MOST_QUERIES))
    rows = "".join(_row(lists, position) for position in shown)
    head = "".join(f'<th scope="col">{text}</th>' for text in ("query", *_HEADINGS.values()))
    some = len(shown) < about["n_query"]
    rest = f" The first {len(shown)} of {about['n_query']} queries are shown." if some else ""
    caption = (
        f"Training sequences that made each completion (in bold) more or less likely, with the predicted effect in "
        f"{escape(about['units'])}: {escape(about['method'])}, {about['n_train']:,} training sequences.{rest}"
    )
    return (
        f'<table class="inflab-explorer-static"><caption style="text-align:left">{caption}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(lists: Lists, position: int) -> str:
    query = lists.queries.card(position)
    asked = f"{_text(query['prompt'])}<b>{_text(query['completion'])}</b>"
    cells = "".join(
        f'<td style="text-align:left;vertical-align:top">'
        f"{_list(lists.ranking.window(position, sign, 0, MOST_RANKS)['items'])}</td>"
        for sign in SIGNS
    )
    return f'<tr><th scope="row" style="text-align:left;vertical-align:top;font-weight:normal">{asked}</th>{cells}</tr>'


def _list(items: list[dict[str, Any]]) -> str:
    if not items:
        return "none"
    return "<br>".join(
        f"<b>{payload.signed(item['effect'])}</b> <i>{escape(str(item['train']))}</i> {_text(item['text'])}"
        for item in items
    )


def _text(text: str) -> str:
    return escape(text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - 1] + "…")
