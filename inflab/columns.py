"""What a corpus refuses: names of columns that results need, tables for lists, ids that mean other text elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import xarray as xr

from inflab.errors import CorpusError
from inflab.schema import DIMS

__all__ = ["check_near", "check_names", "check_pieces", "some", "strings"]

TOKEN_VARIABLES = ("token_id", "is_text", "is_target")
#: Variables of results, which every coordinate of a corpus travels into.
_RESULTS = (
    "influence", "effect", "percent", "is_ranked", "is_exact", "is_candidate", "similarity", "token_text", "low",
    "high", "stability", "measured", "predicted", "sentence", "fit", "fit_source",
)  # fmt: skip
#: What is easily written for an argument of `encode`, and would become a column.
_NEAR = {"completion": "completions", "prompt": "texts", "prompts": "texts", "id": "ids"}


def check_near(coords: Mapping[str, Any]) -> None:
    """Refuse names of columns that were meant as arguments of `inflab.encode`.

    Raises:
        CorpusError: naming what was meant.
    """
    for name, meant in _NEAR.items():
        if name in coords:
            raise CorpusError(f"{name}= would be a column of your own; did you mean {meant}=?")


def check_names(coords: Mapping[str, Any], more: Collection[str] = (), *, allowed: str = "") -> None:
    """Refuse coordinates that would be confused with variables, dims or coordinates of the schema.

    Args:
        coords: names a user gave.
        more: further names that are taken.
        allowed: a name of the schema that may be given.

    Raises:
        CorpusError: naming the first.
    """
    taken = {*DIMS, *TOKEN_VARIABLES, *_RESULTS, "vocabulary_text", *more} - {allowed}
    # In results the queries' coordinates carry the prefix `query_`.
    clash = sorted(name for name in coords if name in taken or name.startswith("query_"))
    if clash:
        raise CorpusError(f"coordinate {clash[0]!r} has a name of the schema; call it something else")


def check_pieces(corpus: xr.Dataset, other: xr.Dataset) -> None:
    """Refuse two corpora whose token ids stand for different pieces of text.

    Raises:
        CorpusError: naming the first such id.
    """
    if "vocabulary_text" not in corpus or "vocabulary_text" not in other:
        return
    mine, theirs = (_pieces(one) for one in (corpus, other))
    for token, piece in mine.items():
        if theirs.get(token, piece) != piece:
            raise CorpusError(
                f"token {token} is {piece!r} in these texts and {theirs[token]!r} in the corpus of the problem: they "
                "were made with different tokenizers; encode both with the model's own"
            )


def _pieces(corpus: xr.Dataset) -> dict[int, str]:
    """Token id -> its readable piece."""
    texts = corpus["vocabulary_text"].to_numpy().tolist()
    return dict(zip(corpus["vocabulary"].to_numpy().tolist(), texts, strict=True))


def strings(name: str, values: Any) -> list[str]:
    """A list of strings.

    Args:
        name: of the argument, for errors.
        values: what was given.

    Returns:
        The list; None and "" as "" where a text may be missing.

    Raises:
        CorpusError: when it is a single string, a table, or holds anything else.
    """
    if isinstance(values, str):
        raise CorpusError(f"{name} is one string; give a list of strings")
    if isinstance(values, Mapping) or hasattr(values, "columns") or not hasattr(values, "__iter__"):
        raise CorpusError(
            f"{name} is a {type(values).__name__}; give a list of strings: one column of a table, and other columns by "
            "name (source=table['source'])"
        )
    values = list(values)
    odd = [i for i, value in enumerate(values) if not isinstance(value, str) and (value or name == "texts")]
    if odd:
        raise CorpusError(f"{name} holds a {type(values[odd[0]]).__name__} at position {odd[0]}; give strings only")
    return [value or "" for value in values]


def some(values: Sequence[Any], most: int = 5) -> str:
    """The first of some values, and how many more there are."""
    shown = ", ".join(str(value) for value in values[:most])
    return shown if len(values) <= most else f"{shown} and {len(values) - most} more"
