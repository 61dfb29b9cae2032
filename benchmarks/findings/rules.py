"""Rules against lookups: sums and small programs, which have an answer by rule, beside a table of prices.

"12 + 7 = 19" and "a = 12 ; b = a + 7 ; print b -> 19" can be worked out, also for a pair of numbers that was never
trained on in either form; "price of red kite -> 19" can only be looked up. Answers come from the same numbers, equally
often for prices as for sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any, Literal

import numpy as np
import torch
import xarray as xr

import inflab
from benchmarks.findings.checkpoint import Recipe
from benchmarks.findings.vocabulary import words_of

__all__ = [
    "KINDS",
    "LEARNED",
    "RECIPES",
    "accuracy",
    "corpus",
    "gap",
    "queries",
    "share_of_first",
    "texts",
    "tokenizer",
]

#: What a training text may be.
KINDS = ("sum", "program", "price")
#: What a query may be: a rule's held-out item, a lookup, and the control, a rule's item that was trained on.
LEARNED = (*KINDS, "sum, trained on")
PER_ANSWER = 3
NUMBERS = 20
NAMES = ("a", "b", "k", "m", "x", "y")
_HELD_OUT = 60
_PRICES = 160
_COLOURS = (
    "amber", "black", "blue", "brown", "golden", "green", "grey", "ivory",
    "lilac", "orange", "pink", "purple", "red", "silver", "white", "yellow",
)  # fmt: skip
_THINGS = (
    "bell", "boat", "bowl", "chair", "clock", "coat", "drum", "flute",
    "glove", "hat", "kite", "lamp", "mirror", "ring", "stone", "table",
)  # fmt: skip
_SEED = 10


@lru_cache(maxsize=1)
def texts() -> dict[str, list[tuple[str, str]]]:
    """Every item, by kind; " held out" holds the sums and programs of the pairs that were never trained on.

    Returns:
        Kind -> prompts and completions.
    """
    rng = np.random.default_rng(_SEED)
    pairs = [(a, b) for a, b in product(range(NUMBERS), repeat=2)]
    pairs = [pairs[i] for i in rng.permutation(len(pairs))]
    held, taught = pairs[:_HELD_OUT], pairs[_HELD_OUT:]
    answers = [sum(taught[i]) for i in rng.choice(len(taught), _PRICES, replace=False)]
    goods = _goods(_PRICES, rng)
    return {
        "sum": [_sum(*pair) for pair in taught],
        "program": [_program(*pair, rng) for pair in taught],
        "price": [(f"price of {name} ->", f" {answer}") for name, answer in zip(goods, answers, strict=True)],
        "held out sum": [_sum(*pair) for pair in held],
        "held out program": [_program(*pair, rng) for pair in held],
    }


def _sum(a: int, b: int) -> tuple[str, str]:
    return f"sum {a} + {b} ->", f" {a + b}"


def _program(a: int, b: int, rng: np.random.Generator) -> tuple[str, str]:
    first, second = (NAMES[i] for i in rng.choice(len(NAMES), 2, replace=False))
    return f"{first} = {a} ; {second} = {first} + {b} ; print {second} ->", f" {a + b}"


def _goods(count: int, rng: np.random.Generator) -> list[str]:
    """Names of two words that many share, so that no single embedding can hold a price."""
    names = [f"{colour} {thing}" for colour in _COLOURS for thing in _THINGS]
    return [names[i] for i in rng.permutation(len(names))[:count]]


@lru_cache(maxsize=1)
def tokenizer() -> Any:
    """The tokenizer: a token is a word or a number with the space before it."""
    return words_of(p + c for items in texts().values() for p, c in items)


@lru_cache(maxsize=1)
def corpus() -> xr.Dataset:
    """What the models are trained on: only the answers are targets."""
    rows = [(kind, *item) for kind in KINDS for item in texts()[kind]]
    kind, prompts, completions = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(prompts, tokenizer(), completions=completions, ids=prompts, kind=kind, answer=completions)


def queries(each: int = 24) -> xr.Dataset:
    """Held-out sums, held-out programs, prices, and sums that were trained on, as prices were.

    Every kind asks for the same answers equally often, three queries an answer: queries of one answer share more, and
    that must not differ between kinds.

    Args:
        each: of every kind, a multiple of three.

    Returns:
        The queries, with the coordinates `kind` and `answer`.

    Raises:
        ValueError: when there are not enough answers of which every kind has three items.
    """
    source = dict(zip(LEARNED, ("held out sum", "held out program", "price", "sum"), strict=True))
    by_answer: dict[str, dict[str, list[tuple[str, str]]]] = {kind: {} for kind in LEARNED}
    for kind in LEARNED:
        for item in texts()[source[kind]]:
            by_answer[kind].setdefault(item[1], []).append(item)
    usable = [a for a in by_answer["sum"] if all(len(some.get(a, ())) >= PER_ANSWER for some in by_answer.values())]
    if each % PER_ANSWER or each // PER_ANSWER > len(usable):
        raise ValueError(f"each={each} must be a multiple of {PER_ANSWER}, at most {PER_ANSWER * len(usable)}")
    answers = sorted(usable[: each // PER_ANSWER], key=int)
    rows = [(kind, *item) for kind in LEARNED for a in answers for item in by_answer[kind][a][:PER_ANSWER]]
    return _asked(rows)


def everything() -> xr.Dataset:
    """Every held-out item, every price, and as many sums that were trained on: to see what a model knows."""
    items = texts()
    return _asked(
        [("sum", *item) for item in items["held out sum"]]
        + [("program", *item) for item in items["held out program"]]
        + [("price", *item) for item in items["price"]]
        + [("sum, trained on", *item) for item in items["sum"][:_HELD_OUT]]
    )


def _asked(rows: list[tuple[str, str, str]]) -> xr.Dataset:
    kind, prompts, completions = (list(column) for column in zip(*rows, strict=True))
    return inflab.encode(
        prompts, tokenizer(), completions=completions, dim="query", ids=prompts, kind=kind, answer=completions
    )


@torch.no_grad()
def accuracy(model: Any, asked: xr.Dataset) -> xr.Dataset:
    """Whether the most probable answer is the right one, and how probable the right one is.

    Args:
        model: a causal language model.
        asked: queries of one answer token.

    Returns:
        `is_right (query)` and `probability (query)`.
    """
    token_bt, is_text_bt, is_target_bt = (
        torch.from_numpy(asked[name].to_numpy()) for name in ("token_id", "is_text", "is_target")
    )
    log_btv = model(token_bt.long(), attention_mask=is_text_bt.long()).logits[:, :-1].log_softmax(-1)
    log_bv, truth_b = log_btv[is_target_bt[:, 1:]], token_bt[is_target_bt].long()
    own = {name: value for name, value in asked.coords.items() if value.dims == ("query",)}
    return xr.Dataset(
        {
            "is_right": ("query", (log_bv.argmax(-1) == truth_b).numpy()),
            "probability": ("query", log_bv.gather(-1, truth_b[:, None])[:, 0].exp().numpy()),
        },
        coords=own,
    )


def share_of_first(scores: xr.Dataset, k: int = 1) -> xr.DataArray:
    """Share of each query's positive influence that its first k training sequences hold.

    Args:
        scores: `influence (query, train)`.
        k: how many.

    Returns:
        Over `query`.
    """
    best = inflab.top(scores, k)
    return best["share"].where(best["is_ranked"], 0).sum("rank").rename("share")


def gap(
    correlations: Sequence[xr.Dataset],
    *,
    rules: Sequence[str] = ("sum", "program"),
    lookup: str = "price",
    answers: Literal["all", "same", "other"] = "all",
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Mean correlation between queries of one rule minus that between lookups, with its bootstrap interval.

    Trainings are drawn, then queries of each kind; a query drawn twice is not paired with itself. Pairs share queries,
    so queries are drawn and not pairs.

    Args:
        correlations: one for each training, from `inflab.analysis.correlation`, with `query_kind` and `query_answer`.
        rules: kinds of query; the mean is taken within each, then over them.
        lookup: the kind to set against them.
        answers: which pairs of queries count: all, those with the same answer, those with different ones.
        resamples: of the bootstrap.
        seed: of the draw.

    Returns:
        Value, low, high.
    """
    rng = np.random.default_rng(seed)
    trainings = [{kind: _pairs(one, kind, answers) for kind in (*rules, lookup)} for one in correlations]

    def statistic(pairs: dict[str, tuple[np.ndarray, np.ndarray]], draw: bool) -> float:
        means = {}
        for kind, (r_qo, counts_qo) in pairs.items():
            n = len(r_qo)
            times = np.bincount(rng.integers(n, size=n), minlength=n) if draw else np.ones(n)
            weight_qo = np.outer(times, times) * counts_qo
            means[kind] = (weight_qo * r_qo).sum() / weight_qo.sum() if weight_qo.any() else np.nan
        return float(np.mean([means[kind] for kind in rules]) - means[lookup])

    drawn = [
        np.mean([statistic(trainings[c], True) for c in rng.integers(len(trainings), size=len(trainings))])
        for _ in range(resamples)
    ]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return float(np.mean([statistic(one, False) for one in trainings])), float(low), float(high)


def _pairs(correlation: xr.Dataset, kind: str, answers: str) -> tuple[np.ndarray, np.ndarray]:
    """Correlations of the queries of a kind, and which pairs of them count."""
    where = np.flatnonzero(correlation["query_kind"].to_numpy() == kind)
    answer = correlation["query_answer"].to_numpy()[where]
    counts = ~np.eye(len(where), dtype=bool)
    if answers != "all":
        counts &= (answer[:, None] == answer) == (answers == "same")
    return correlation["correlation"].to_numpy()[np.ix_(where, where)], counts


RECIPES = {
    "rules": Recipe(
        "rules", corpus, tokenizer,
        {"n_positions": 16, "n_embd": 96, "n_layer": 2, "n_head": 4},
        {"epochs": 140, "batch_size": 32, "learning_rate": 3e-3, "weight_decay": 0.5, "warmup": 100},
    ),
}  # fmt: skip
