"""Picked sequences as a table that leaves the widget: a data frame, CSV, markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from inflab.widgets.payload import signed

__all__ = ["as_csv", "as_markdown", "table"]

COLUMNS = ("query", "train", "sign", "rank", "effect", "share", "note", "text")
_FORMULA = re.compile(r"^\s*[=+\-@]|^[\t\r]")


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row for each pick: query, train, sign, rank, effect, share, note, text, then the labels of the corpus.

    Args:
        rows: from `Lists.picks`.

    Returns:
        The frame; a label that is called like a column gets the prefix "train_".
    """
    found = [
        {name: row.get(name) for name in COLUMNS}
        | {f"train_{name}" if name in COLUMNS else name: value for name, value in row["meta"].items()}
        for row in rows
    ]
    names = dict.fromkeys([*COLUMNS, *(name for row in found for name in row)])
    return pd.DataFrame(found, columns=list(names))


def as_csv(frame: pd.DataFrame) -> str:
    """CSV that a spreadsheet may open: a text that begins like a formula (=, +, -, @, tab) gets an apostrophe in front.

    Args:
        frame: from `table`.

    Returns:
        The text, with a header; lines end in CR LF, as RFC 4180 has it.
    """
    safe = frame.rename(columns=_safe).map(_safe)
    return str(safe.to_csv(index=False, lineterminator="\r\n"))


def as_markdown(frame: pd.DataFrame) -> str:
    """A table in GitHub's markdown; what a text holds of markup or HTML stays text.

    Args:
        frame: from `table`.

    Returns:
        The text; "" without picks.
    """
    if frame.empty:
        return ""
    lines: list[list[Any]] = [list(frame.columns), ["---"] * len(frame.columns)]
    lines += [
        [_number(name, value) for name, value in zip(frame.columns, row, strict=True)]
        for row in frame.astype(object).to_numpy().tolist()
    ]
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def _number(name: str, value: Any) -> Any:
    if value is None or (isinstance(value, float) and value != value):
        return ""
    if name == "effect":
        return signed(value)
    return f"{100 * value:.2g} %" if name == "share" else value


def _cell(value: Any) -> str:
    text = " ".join(str(value).split())
    return re.sub(r"([\\`*_\[\]<>&|#~])", r"\\\1", text) if not re.fullmatch(r"-+", text) else text
