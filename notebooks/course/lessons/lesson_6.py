"""Lesson 6: retrieval. A filter by words and what it cannot see, low rank, where the influence sits, and how much the top holds."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import inflab
from lessons.checking import check, predict

__all__ = [
    "MEMORY", "ask_answer", "ask_filter", "ask_rank", "ask_share", "by_place", "check_recall", "check_share",
    "check_tfidf", "check_truncated", "facts", "habits", "rank_picture", "terms",
]  # fmt: skip

MEMORY = "100MB"
_RANKS = (1, 2, 4, 8, 16, 32)
_RANK_QUERIES = 20


@lru_cache(maxsize=1)
def facts() -> tuple[xr.Dataset, Any, xr.Dataset, Any, xr.Dataset]:
    """The invented facts: corpus, tokenizer, questions, the fitted EK-FAC, and all exact scores."""
    corpus = inflab.datasets.load("facts")
    model, tokenizer = inflab.models.load("facts-gpt", progress=False)
    queries = inflab.datasets.fact_queries(corpus, tokenizer=tokenizer)
    problem = inflab.Problem(model, inflab.CausalLM(), corpus)
    ekfac = inflab.EKFAC(layers="*.mlp.*").fit(problem, memory=MEMORY, progress=False)
    return corpus, tokenizer, queries, ekfac, ekfac.score(queries, memory=MEMORY, progress=False)


def habits() -> dict[str, tuple[xr.Dataset, xr.Dataset]]:
    """Habits told in English and Spanish, asked in words that were read and in words that were not.

    Returns:
        "memorised" and "paraphrase" -> exact scores over (query, train), and TF-IDF of the same sentences.
    """
    root = str(Path(__file__).resolve().parents[3])
    if root not in sys.path:
        sys.path.append(root)
    from benchmarks.findings import checkpoint, retrieval

    corpus = retrieval.habits()
    problem = inflab.Problem(checkpoint.load(retrieval.RECIPES["retrieval-habits"], 0), inflab.CausalLM(), corpus)
    ekfac = inflab.EKFAC(layers="*.mlp.*", max_examples=600).fit(problem, memory=MEMORY, progress=False)
    # Three of the ten frames: enough to rank, and a third of the time.
    told = corpus.isel(
        train=[i for i, name in enumerate(corpus["train"].to_numpy()) if int(name.rsplit(".", 1)[1]) < 3]
    )
    found = {}
    for kind in retrieval.KINDS:
        queries = retrieval.habit_queries(kind, 24)
        scores = ekfac.score(queries, train=told, memory=MEMORY, progress=False)
        few = inflab.filter_candidates(queries, told, told.sizes["train"], by="tfidf", progress=False)
        value = np.zeros((queries.sizes["query"], told.sizes["train"]))
        place = {name: i for i, name in enumerate(told["train"].to_numpy())}
        for row in range(len(value)):
            at = [place[name] for name in few["train"].to_numpy()[row]]
            value[row, at] = np.nan_to_num(few["similarity"].to_numpy()[row])
        found[kind] = (scores, value)
    return found


def terms(texts: list[str], query: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The words of a query, and which of them each text holds.

    Returns:
        The distinct words; the query as numbers of these words, one after the other; `holds (documents, words)`.
    """
    split = [re.findall(r"\w+", text.lower()) for text in [query, *texts]]
    words = sorted(set(split[0]))
    holds = np.array([[word in set(text) for word in words] for text in split[1:]])
    return words, np.array([words.index(word) for word in split[0]]), holds


@lru_cache(maxsize=16)
def _truncated_scores(rank: int, truncation: Any) -> np.ndarray:
    _, _, queries, ekfac, _ = facts()
    asked = queries.isel(query=slice(_RANK_QUERIES))
    found = ekfac.score(asked, rank=rank, truncation=truncation, memory=MEMORY, progress=False)
    return np.asarray(found["influence"].transpose("query", "train"))


def rank_picture(_x: np.ndarray, _y: np.ndarray, rank: float) -> dict[str, Any]:
    """How far scores at a rank are from the exact ones, query by query: what the playground draws."""
    nearest = min(_RANKS, key=lambda one: abs(np.log(one / rank)))
    exact = facts()[4]["influence"].transpose("query", "train").to_numpy()[:_RANK_QUERIES]
    lines, said = {}, []
    for truncation in ("plain", "whitened"):
        rough = _truncated_scores(nearest, truncation)
        r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(exact, rough, strict=True)])
        first = (exact.argmax(1) == rough.argmax(1)).sum()
        lines[truncation] = (np.arange(1, len(r) + 1), np.sort(np.log10(np.maximum(1 - r, 1e-7)))[::-1])
        said.append(f"{truncation}: lowest correlation {r.min():.4f}, same first sentence for {first} of {len(r)}")
    return {"lines": lines, "words": f"rank {nearest}. " + "; ".join(said)}


def by_place(tokens: xr.Dataset, prompts: list[int]) -> dict[int, float]:
    """Mean share of |influence| at each place, counted from the first word of the answer (0).

    Args:
        tokens: of `Influence.attribute`, one sentence a query.
        prompts: how many tokens each question has before its answer.

    Returns:
        Place -> share, in order.
    """
    value = np.abs(tokens["influence"].sum("layer").isel(rank=0).transpose("query", "token").to_numpy())
    text = tokens["is_text"].isel(rank=0).transpose("query", "token").to_numpy()
    value = np.where(text, np.nan_to_num(value), 0)
    value /= value.sum(1, keepdims=True)
    found: dict[int, float] = {}
    for row, before in enumerate(prompts):
        for at in np.flatnonzero(text[row]):
            found[int(at) - before] = found.get(int(at) - before, 0.0) + float(value[row, at]) / len(prompts)
    return dict(sorted(found.items()))


def _idf(holds: np.ndarray) -> np.ndarray:
    n_t = holds.sum(0)
    return np.log((len(holds) - n_t + 0.5) / (n_t + 0.5) + 1)


def _tfidf(query: np.ndarray, holds: np.ndarray) -> np.ndarray:
    return holds[:, query] @ _idf(holds)[query]


def _recall(exact: np.ndarray, similarity: np.ndarray, k: int, m: int) -> float:
    best, few = np.argsort(-exact, 1)[:, :k], np.argsort(-similarity, 1, kind="stable")[:, :m]
    return float(np.mean([np.isin(a, b).mean() for a, b in zip(best, few, strict=True)]))


def _truncated(v: np.ndarray, r: int) -> np.ndarray:
    u, s, wt = np.linalg.svd(v, full_matrices=False)
    return (u[:, :r] * s[:r]) @ wt[:r]


def _share(influence: np.ndarray, k: int) -> float:
    positive = np.sort(np.maximum(influence, 0))[::-1]
    return float(positive[:k].sum() / positive.sum())


def check_tfidf(answer: Any) -> Callable[..., Any]:
    """The paper's filter, equations 28 and 29."""
    rng = np.random.default_rng(0)
    cases = [
        (np.array([0, 2, 1, 2]), rng.random((9, 3)) < 0.4),
        (np.array([1, 0, 3, 3, 2, 0]), rng.random((12, 4)) < 0.5),
    ]
    return check(
        "the TF-IDF of every document", answer, _tfidf, cases,
        mistakes={
            "A word that stands twice in the query counts twice: sum over the query's words, not over the distinct ones.": (
                lambda q, holds: holds[:, np.unique(q)] @ _idf(holds)[np.unique(q)]
            ),
            "The + 1 inside the logarithm is missing: without it, frequent words count against a document.": lambda q, holds: (
                holds[:, q] @ np.log((len(holds) - holds.sum(0) + 0.5) / (holds.sum(0) + 0.5))[q]
            ),
            "This IDF is log(C / n_t); the paper's has the halves, as BM25's.": lambda q, holds: (
                holds[:, q] @ np.log(len(holds) / holds.sum(0))[q]
            ),
            "Every word counts the same: the IDF is missing.": lambda q, holds: holds[:, q].sum(1),
            "n_t counts documents that hold the word; you count those that do not.": lambda q, holds: (
                holds[:, q] @ _idf(~holds)[q]
            ),
        },
        right="A word that stands everywhere hardly counts, a rare name counts most.",
    )  # fmt: skip


def check_recall(answer: Any) -> Callable[..., Any]:
    """Recall of the exact top k in the filter's top m."""
    rng = np.random.default_rng(1)
    cases = []
    for k, m in ((3, 5), (4, 12)):
        exact = rng.normal(size=(40, 30))
        cases.append((exact, exact + 0.7 * rng.normal(size=exact.shape), k, m))
    return check(
        "recall of the filter", answer, _recall, cases,
        mistakes={
            "Divide by k, the length of the exact list: m is what you pay, not what you want.": lambda e, s, k, m: (
                _recall(e, s, k, m) * k / m
            ),
            "The two lists are the wrong way round: k of the exact scores, m of the filter.": lambda e, s, k, m: (
                _recall(s, e, k, m)
            ),
            "You take the smallest: argsort goes upwards.": lambda e, s, k, m: _recall(-e, -s, k, m),
            "Both lists have k; the filter may keep m.": lambda e, s, k, m: _recall(e, s, k, k),
            "That is their number. Give the share.": lambda e, s, k, m: _recall(e, s, k, m) * k,
        },
        right="What the filter drops is never scored: recall is the most that the whole search can reach.",
    )  # fmt: skip


def check_truncated(answer: Any) -> Callable[..., Any]:
    """The nearest matrix of rank r."""
    rng = np.random.default_rng(2)

    def smallest(v: np.ndarray, r: int) -> np.ndarray:
        u, s, wt = np.linalg.svd(v, full_matrices=False)
        return (u[:, -r:] * s[-r:]) @ wt[-r:]

    def bare(v: np.ndarray, r: int) -> np.ndarray:
        u, _, wt = np.linalg.svd(v, full_matrices=False)
        return u[:, :r] @ wt[:r]

    return check(
        "the truncated gradient", answer, _truncated, [(rng.normal(size=(4, 6)), 2), (rng.normal(size=(7, 5)), 3)],
        mistakes={
            "The singular values are missing.": bare,
            "You keep the smallest; numpy sorts the largest first.": smallest,
            "Nothing is dropped: all singular values are still in.": lambda v, r: v,
        },
        right="r (I + P) numbers instead of I P, and no matrix of rank r is nearer.",
    )  # fmt: skip


def check_share(answer: Any) -> Callable[..., Any]:
    """Share of the k largest."""
    rng = np.random.default_rng(3)
    return check(
        "the share of the top k", answer, _share, [(rng.standard_t(2, size=40), 3), (rng.standard_t(2, size=25), 5)],
        mistakes={
            "Below stands the sum of all, negative ones too: it can be near 0. Take the positive ones.": lambda i, k: (
                np.sort(i)[::-1][:k].sum() / i.sum()
            ),
            "Of the positive influence: absolute values count the negative ones as well.": lambda i, k: (
                np.sort(i)[::-1][:k].sum() / np.abs(i).sum()
            ),
            "You take the first k as they stand: sort first.": lambda i, k: np.maximum(i, 0)[:k].sum() / np.maximum(i, 0).sum(),
            "That counts sequences. Sum their influence.": lambda i, k: k / (i > 0).sum(),
        },
        right="inflab.top gives it as well: share, one sequence at a time.",
    )  # fmt: skip


def ask_filter() -> None:
    """What words cannot find."""
    predict(
        "Sentence A taught the model the answer, in other words than the question. Sentence B shares all but one of the question's "
        "words and taught nothing about it. Which does a filter by words keep first?",
        ["A", "B", "both alike", "it depends on the gradients"],
        1,
        "It reads words, and no gradient. If A shares no word with the question, no length of the list helps.",
    )


def ask_rank() -> None:
    """What rank a gradient has."""
    predict(
        "A question with an answer of 2 tokens, and 9 tokens before it. In the first block's matrix of 128 x 512, what is the "
        "largest rank its gradient can have?",
        ["2", "10", "128"],
        1,
        "It is a sum of g_t a_t^T over the tokens that are read before the last prediction: 9 of the prompt and 1 of the answer. "
        "So a short question is of low rank before anything is truncated.",
    )


def ask_answer() -> None:
    """Where the heat is."""
    predict(
        'The teaching sentence says "... Astrobia was Zorald Pfaff." At which token does its influence on the answer " Zorald Pfaff" '
        "begin to be large?",
        ["at 'Zorald', the first word of the answer", "at 'was', one word before", "at 'Astrobia' alone"],
        1,
        "The position that reads 'was' is the one that learns to predict 'Zorald'. Heat sits one token early.",
    )


def ask_share() -> None:
    """How much one sentence carries."""
    predict(
        "By EK-FAC, of all positive influence on an answer, over 160 sentences: what share has the first, in the middle of all questions?",
        ["about 1 in 160", "about a twentieth", "a fifth or more"],
        2,
        "Influence has a heavy tail. But it is never one sentence alone: look how long the rest of the curve goes on.",
    )
