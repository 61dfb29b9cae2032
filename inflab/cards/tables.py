"""The table of layers, which draws its shares; in every other way a `pandas.DataFrame`."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

from inflab.cards.page import CODE, SOFT, as_html, as_text, bar, cell, frame, heading
from inflab.cards.words import count, percent, share_in_words, visible

__all__ = ["LayerTable", "Shown", "table_html"]


class Shown(pd.DataFrame):
    """A table with a card in notebooks and a last line of totals in text.

    Selections (`table[table["covered"]]`) stay of the kind; what lacks the columns looks as pandas has it.
    """

    #: What a card needs.
    needed: frozenset[str] = frozenset()

    @property
    def _constructor(self) -> type[Shown]:
        return type(self)

    def totals(self) -> str:
        """The table's totals in words, "" when it does not know them."""
        raise NotImplementedError

    def card(self) -> str:
        """The table as HTML."""
        raise NotImplementedError

    def has_card(self) -> bool:
        """Whether this is still what the card is about."""
        return bool(len(self)) and self.needed <= {*self.columns, self.index.name}

    def _repr_html_(self) -> str | None:
        plain: str | None = pd.DataFrame(self)._repr_html_()  # type: ignore[operator]
        if plain is None or not self.has_card():  # None: the user wants no HTML (`display.notebook_repr_html`)
            return plain
        return as_html(self.card, self.__repr__, plain)

    def __repr__(self) -> str:
        plain = super().__repr__()
        told = as_text(self.totals, "") if self.has_card() else ""
        return f"{plain}\n{told}" if told else plain


class LayerTable(Shown):
    """What `inflab.layers` gives: one row a module that owns parameters."""

    needed = frozenset({"layer", "kind", "parameters", "covered"})

    def totals(self) -> str:
        """Share of the model's parameters that is covered."""
        at = self.attrs
        if not {"covered", "parameters"} <= at.keys():
            return ""
        return f"{share_in_words(at['covered'], at['parameters'], 'parameters')} are covered"

    def card(self) -> str:
        """Rows with bars of their share of the model; hatched where a layer is not covered, with the reason."""
        whole = self.attrs.get("parameters") or self["parameters"].sum()
        shares = (self["parameters"] / whole).tolist()
        widest = max(shares) or 1.0
        named = self.index if self.index.name == "layer" else self["layer"]
        has_shape = "shape" in self
        heads = ["layer", "kind", *(["shape"] if has_shape else []), "parameters", "of the model", "covered"]
        rows = []
        for name, share, (_, row) in zip(named, shares, self.iterrows(), strict=True):
            is_covered = bool(row["covered"])
            why = "" if is_covered else str(row.get("why_not", ""))
            no = f'<span style="{SOFT}">no{": " if why else ""}{escape(visible(why, 160))}</span>'
            rows.append([
                cell(f'<span style="{CODE}">{escape(visible(name, 80))}</span>'),
                cell(escape(visible(row["kind"]))),
                *([cell(escape(visible(row["shape"])))] if has_shape else []),
                cell(count(row["parameters"]), is_number=True),
                cell(bar(share / widest, 56, is_solid=is_covered) + percent(share)),
                cell("✓ yes" if is_covered else no, wraps=True),
            ])
        return table_html(("Layers", self.totals() or count(len(self), "module"), ""), heads, rows, {"parameters"})


def table_html(strip: tuple[str, str, str], heads: list[str], rows: list[list[str]], numbers: set[str]) -> str:
    """A card around a table: as many rows as pandas would show, the middle left out.

    Args:
        strip: what it is, its totals in words, more of them.
        heads: of the columns.
        rows: cells, safe HTML.
        numbers: heads of columns of numbers.

    Returns:
        HTML.
    """
    most: Any = pd.get_option("display.max_rows")
    if most and len(rows) > most:
        style = f"text-align:left;padding:2px 8px;{SOFT}"
        gap = f'<td colspan="{len(heads)}" style="{style}">… {len(rows) - most} more …</td>'
        rows = [*rows[: most - most // 2], [gap], *rows[len(rows) - most // 2 :]]
    head = "".join(cell(text, tag="th", is_number=text in numbers) for text in heads)
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in rows)
    inside = (  # a table too wide for its place scrolls; the keyboard reaches it by its tabindex
        '<div role="region" aria-label="rows" tabindex="0" style="overflow-x:auto">'
        '<table style="margin:0;border:0;border-collapse:collapse;font-size:12px;line-height:1.4">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    return frame(heading(*strip) + inside, f"{strip[0]}: {strip[1]}")
