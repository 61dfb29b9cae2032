"""A typed question as a query batch, and a contrast of two completions as the difference of their scores.

Influence is linear in the measurement (GB23 eq. 5): on `log p(A) - log p(B)` it is the influence on A less that on B.
Both completions stay two rows of a query batch, `ask-2+` and `ask-2-`; their difference is the one query `ask-2`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import xarray as xr

from inflab.corpus import encode
from inflab.effects import predicts
from inflab.errors import CorpusError, SettingError
from inflab.widgets.payload import clean

__all__ = ["by_question", "combine", "encoded", "fresh_id", "live", "rows_of"]

_SIDES = ("+", "-")


def live(source: Any, tokenizer: Any, what: str) -> Any:
    """The Influence that answers.

    Args:
        source: of the Explorer.
        tokenizer: the model's own, or None.
        what: needs them, as a reader calls it.

    Returns:
        `source.influence`.

    Raises:
        SettingError: when there is none, or no tokenizer; says the mend.
    """
    if source.influence is None:
        raise SettingError(
            f"{what} needs the model, and this is a saved explanation; open an Influence with its problem"
        )
    if tokenizer is None:
        raise SettingError(f"{what} needs a tokenizer; pass tokenizer=, the one of the model")
    return source.influence


def fresh_id(taken: Collection[Any]) -> str:
    """An id that no query has: "ask-1", "ask-2", ..."""
    names, number = {str(one) for one in taken}, 1
    while any(f"ask-{number}{side}" in names for side in ("", *_SIDES)):
        number += 1
    return f"ask-{number}"


def encoded(influence: Any, tokenizer: Any, prompt: str, completions: Sequence[str], name: str) -> xr.Dataset:
    """One question as a query batch: one row, or two for a contrast.

    Args:
        influence: whose problem must have a place for it.
        tokenizer: the model's own.
        prompt: what comes before.
        completions: one, or two.
        name: id of the question.

    Returns:
        A corpus over `query`.

    Raises:
        CorpusError: when a text is empty, without a token, or too long; in the reader's words.
        SettingError: when both completions are the same.
    """
    prompt, completions = clean(prompt), [clean(text) for text in completions]  # half an emoji is no text to encode
    if not prompt.strip():
        raise CorpusError("the prompt is empty; type the text that the completion goes on from")
    if any(not text for text in completions):
        raise CorpusError("a completion is empty; type one, or let the model complete")
    if len(set(completions)) < len(completions):
        raise SettingError("both completions are the same, so their difference is 0 everywhere; change one of them")
    ids = [name] if len(completions) == 1 else [name + side for side in _SIDES]
    queries = encode([prompt] * len(ids), tokenizer, completions=completions, dim="query", ids=ids)
    problem = getattr(influence, "problem", None)
    if problem is not None:
        problem.check_corpus(queries, "query")
    return queries


def rows_of(queries: xr.Dataset, name: Any) -> xr.Dataset:
    """The rows that a question stands on: itself, or the two of a contrast, first minus second.

    Args:
        queries: a batch over `query`.
        name: id of the question.

    Returns:
        One row, or two.

    Raises:
        CorpusError: when the batch has none.
    """
    ids = queries["query"].to_numpy().tolist()
    for wanted in ([name], [f"{name}{side}" for side in _SIDES]):
        if all(one in ids for one in wanted):
            return queries.isel(query=[ids.index(one) for one in wanted])
    raise CorpusError(f"query {name!r} is not in the query batch, so it cannot be asked again")


def combine(scores: xr.Dataset, name: Any) -> xr.Dataset:
    """Scores of the rows of a question as scores of the question: those of one row as they are, of two the difference.

    Args:
        scores: over `query`, of one row or two.
        name: id of the question.

    Returns:
        The same with one query; prompt and completion are words for the query card.

    Raises:
        SettingError: when the method's similarity is not linear in the measurement.
    """
    if scores.sizes["query"] == 1:
        return scores
    value = scores["influence"]
    if not predicts(scores) and value.attrs.get("units") == "1":
        raise SettingError(
            f"{scores.attrs.get('method', 'this method')} gives a similarity, which is not linear in the measurement, "
            "so two of them cannot be subtracted; ask each completion alone"
        )
    first, second = (value.isel(query=row, drop=True) for row in (0, 1))
    attrs = value.attrs | {
        "description": "influence on the first completion less that on the second",
        "sign": "positive: training on the sequence makes the first completion more likely against the second",
    }
    found = scores.isel(query=[0]).assign(influence=(first - second).expand_dims("query").assign_attrs(attrs))
    found["influence"] = found["influence"].transpose(*value.dims)
    words = _words(scores)
    coords: dict[str, Any] = {key: ("query", np.array([text], dtype=object)) for key, text in words.items()}
    unequal = [
        str(n) for n, c in scores.coords.items()
        if c.dims == ("query",) and n != "query" and str(n) not in words and c.to_numpy()[0] != c.to_numpy()[1]
    ]  # fmt: skip
    return found.drop_vars(unequal).assign_coords({"query": np.array([name], dtype=object), **coords})


def by_question(measured: xr.Dataset, ids: Sequence[Any]) -> xr.Dataset:
    """What was measured of the rows of a batch, as what holds of its questions; those not measured are left out.

    Args:
        measured: of `inflab.truth.leave_out`: `measurement (group, seed, query)`, `baseline (seed, query)`.
        ids: of the questions.

    Returns:
        `change`, `change_se` `(group, query)` and `baseline (seed, query)`.
    """
    value = measured[["measurement", "baseline"]].astype(np.float64)
    parts, names = [], []
    for name in ids:
        try:
            rows = rows_of(value, name)
        except CorpusError:
            continue
        one = rows.isel(query=0, drop=True) if rows.sizes["query"] == 1 else rows.diff("query").isel(query=0, drop=True)
        parts.append(one if rows.sizes["query"] == 1 else -one)
        names.append(name)
    whole = xr.concat(parts, dim="query", coords="minimal", compat="override", join="override")
    whole = whole.assign_coords(query=np.array([*names, None], dtype=object)[:-1])
    difference = whole["measurement"] - whole["baseline"]
    n = difference.sizes["seed"]
    spread = difference.std("seed", ddof=1) / n**0.5 if n > 1 else difference.mean("seed") * np.nan
    return xr.Dataset({"change": difference.mean("seed"), "change_se": spread, "baseline": whole["baseline"]})


def _words(scores: xr.Dataset) -> dict[str, str]:
    def both(name: str) -> tuple[str, str]:
        return tuple(map(str, scores[name].to_numpy())) if name in scores.coords else ("first", "second")  # type: ignore[return-value]

    first, second = both("query_completion")
    space = first[: len(first) - len(first.lstrip())]
    completion = f"{space}{first.strip()} − {second.strip()}"
    prompt = both("query_prompt")[0] if "query_prompt" in scores.coords else ""
    return {"query_prompt": prompt, "query_completion": completion, "query_text": prompt + completion}
