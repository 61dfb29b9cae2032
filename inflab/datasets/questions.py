"""Questions about the invented facts, each with the id of the sentence that teaches the answer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from inflab.corpus import encode
from inflab.datasets.card import choose
from inflab.datasets.facts import RELATIONS, Fact
from inflab.datasets.loading import load, tokenizer
from inflab.errors import CorpusError, SettingError

__all__ = ["fact_queries"]

_NEEDED = ("kind", "fact", "relation", "direction", "subject", "answer")
_CARRIED = ("dataset", "title", "licence", "citation", "source", "options")


def fact_queries(
    corpus: xr.Dataset | None = None,
    *,
    tokenizer: Any = None,
    facts: Sequence[int] | None = None,
    direction: Literal["forward", "reversed"] = "forward",
) -> xr.Dataset:
    """Ask the facts of a corpus as prompt and completion.

    The prompt is the teaching sentence up to the answer, the completion is the answer. Where a fact was told in both
    directions, the sentence told in the direction of the question is the one that teaches it.

    Args:
        corpus: from `inflab.datasets.load("facts", ...)`, or a part of it; None is `load("facts")`.
        tokenizer: the one the corpus was encoded with; None is `inflab.datasets.tokenizer("facts", ...)` with the
            corpus' own options.
        facts: numbers of the facts to ask; None is all that the corpus teaches.
        direction: "forward" asks for the answer, "reversed" for the subject.

    Returns:
        A corpus over `query` with coordinates `fact`, `relation`, `direction`, `subject`, `answer` and `taught_by`,
        the id in `train` of the sentence that an influence method should rank first.

    Raises:
        CorpusError: when the corpus is not one of facts.
        SettingError: for a direction or a fact that is not there.

    Example:
        >>> asked = inflab.datasets.fact_queries(corpus, tokenizer=tokenizer, facts=[0, 1])
        >>> asked["completion"].values[0], asked["taught_by"].values[0] in corpus["train"].values
        (' Zorald Pfaff', True)
    """
    if direction not in ("forward", "reversed"):
        raise SettingError(f"direction={direction!r} is not one of forward, reversed; ask one direction at a time")
    corpus = load("facts") if corpus is None else corpus
    missing = [name for name in _NEEDED if name not in corpus.coords or corpus[name].dims != ("train",)]
    if missing:
        raise CorpusError(
            f"corpus has no coordinate {', '.join(missing)} over train; use inflab.datasets.load('facts')"
        )
    taught_by = _teaching(corpus, direction)
    if not taught_by:
        raise CorpusError("corpus teaches no fact: none of its rows has kind 'fact'")
    asked = choose("facts", facts, sorted(taught_by))
    rows = [corpus.sel(train=taught_by[number]) for number in asked]
    told = [
        Fact(number, RELATIONS[row["relation"].item()], row["subject"].item(), row["answer"].item())
        for number, row in zip(asked, rows, strict=True)
    ]
    questions = [fact.question(direction) for fact in told]
    queries = encode(
        [prompt for prompt, _ in questions],
        _own_tokenizer(corpus) if tokenizer is None else tokenizer,
        completions=[completion for _, completion in questions],
        dim="query",
        ids=[f"ask-{number:03d}{'-reversed' * (direction == 'reversed')}" for number in asked],
        fact=asked,
        relation=[fact.relation.name for fact in told],
        direction=[direction] * len(told),
        subject=[fact.subject for fact in told],
        answer=[fact.answer for fact in told],
        taught_by=[taught_by[number] for number in asked],
    )
    queries.attrs |= {key: corpus.attrs[key] for key in _CARRIED if key in corpus.attrs}
    return queries


def _teaching(corpus: xr.Dataset, direction: str) -> dict[int, Any]:
    """Fact number to the id of its teaching sentence: the one told in `direction` where there is one."""
    is_fact = corpus["kind"].to_numpy() == "fact"
    is_same = corpus["direction"].to_numpy() == direction
    ids, numbers = corpus["train"].to_numpy(), corpus["fact"].to_numpy()
    order = [*np.flatnonzero(is_fact & ~is_same), *np.flatnonzero(is_fact & is_same)]
    return {int(numbers[i]): ids[i] for i in order}


def _own_tokenizer(corpus: xr.Dataset) -> Any:
    if "options" not in corpus.attrs:
        raise CorpusError("corpus does not say its options (attribute 'options'); pass the tokenizer it was made with")
    return tokenizer("facts", **json.loads(corpus.attrs["options"]))
