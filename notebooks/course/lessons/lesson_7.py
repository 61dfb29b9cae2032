"""Lesson 7: word order. A small model that was taught facts in one order, and sentences that say them in another.

The corpus, its edits and the trained models are those of the findings (`benchmarks/findings/word_order.py`).
"""

from __future__ import annotations

import html
import re
import sys
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import ipywidgets
import numpy as np
import xarray as xr

from lessons.checking import check, predict

ROOT = Path(__file__).resolve().parents[3]
sys.path.append(str(ROOT))  # corpus and models are shared with the findings

import inflab  # noqa: E402
from benchmarks.findings import checkpoint, word_order  # noqa: E402

__all__ = [
    "EDITS", "ask_flip", "by_edit", "tokenizer", "ask_loss", "ask_tokens", "ask_training", "check_pooled", "check_relative", "check_share", "edits",
    "influence", "lab", "losses", "queries",
]  # fmt: skip

EDITS, by_edit, tokenizer = word_order.EDITS, word_order.by_edit, word_order.tokenizer


@lru_cache(maxsize=3)
def influence(way: str = "forward") -> Any:
    """EK-FAC of a model that was told the facts in one order: "forward", "reversed" or "both"."""
    model = checkpoint.load(word_order.RECIPES[way], 0)
    problem = inflab.Problem(model, inflab.CausalLM(), word_order.corpus(way))
    return inflab.EKFAC().fit(problem, progress=False)


@lru_cache(maxsize=4)
def queries(way: str = "forward", limit: int = 30) -> xr.Dataset:
    """Questions that ask for the answer ("forward") or for the subject ("reversed")."""
    return word_order.queries("taught", way, limit=limit)


def edits(limit: int = 30) -> xr.Dataset:
    """Every edit of these facts, as sequences that can be scored."""
    return word_order.edits("taught", limit=limit)


def losses() -> dict[str, dict[str, float]]:
    """Mean -log p of the answers, in nat: way of telling -> direction of the question -> loss."""
    found = {}
    for way in word_order.WAYS:
        problem = influence(way).problem
        asked = {"answer asked": queries("forward"), "subject asked": queries("reversed")}
        found[way] = {
            name: float(-inflab.log_probability(problem, one).sum("token").mean()) for name, one in asked.items()
        }
    return found


class _Lab(ipywidgets.VBox):
    """Write a sentence, see what it would do; without a kernel, the first sentence's answer stays."""

    def __init__(self) -> None:
        self._asked = queries()
        texts = [str(text) for text in self._asked["text"].to_numpy()]
        self._which = ipywidgets.Dropdown(options=list(zip(texts, range(len(texts)), strict=True)), description="query")
        self._sentence = ipywidgets.Text(value="", description="sentence", layout=ipywidgets.Layout(width="640px"))
        self._button = ipywidgets.Button(description="What would it do?", button_style="primary")
        self._reply = ipywidgets.HTML()
        for part in (self._which, self._sentence):
            part.style.description_width = "70px"
        self._which.layout.width = "640px"
        self._known = set(word_order.tokenizer().get_vocab())
        super().__init__([self._which, self._sentence, self._button, self._reply])
        self._which.observe(lambda change: self._start(), names="value")
        self._button.on_click(lambda button: self._answer())
        self._start()

    def _start(self) -> None:
        number = int(self._asked["fact"].to_numpy()[self._which.value])
        fact = next(f for f in word_order.facts()["taught"] if f.number == number)
        self._taught = word_order.edit(fact, "same")
        self._sentence.value = self._taught.strip()
        self._answer()

    def _answer(self) -> None:
        said = " " + self._sentence.value.strip()
        pieces = re.findall(r" ?[\w]+| ?[^\s\w]", said)
        unknown = [piece.strip() for piece in pieces if piece not in self._known]
        if unknown or len(pieces) < 2:
            words = f"The model has never met: {', '.join(unknown)}." if unknown else "Write at least two words."
            self._reply.value = f"<p>{html.escape(words)} It knows the words of its corpus alone.</p>"
            return
        both = inflab.encode([self._taught, said], word_order.tokenizer(), ids=["taught", "yours"])
        query = self._asked.isel(query=[self._which.value])
        value = influence().score(query, train=both, progress=False)["influence"].to_numpy()[0]
        share = value[1] / value[0]
        side, colour = ("helps", "#0072b2") if share > 0 else ("hurts", "#d55e00")
        wide = min(100.0, abs(100 * share))
        self._reply.value = (
            f'<div style="background:#eee;width:420px;height:14px"><div style="background:{colour};width:{wide:.1f}%;'
            f'height:14px"></div></div><p>Seen once more, it {side} by <b>{share:+.1%}</b> of what the sentence that taught '
            f"it would do.</p>"
        )

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        found = super()._repr_mimebundle_(**kwargs)
        still = f"<p><b>{html.escape(self._sentence.value)}</b></p>{self._reply.value}"
        return {**(found or {}), "text/html": still, "text/plain": "The word-order lab: needs a running kernel"}


def lab() -> _Lab:
    """A place to write sentences."""
    return _Lab()


def _relative(value_qe: np.ndarray) -> np.ndarray:
    return value_qe / value_qe[:, :1]


def _pooled(value_qe: np.ndarray) -> np.ndarray:
    return value_qe.sum(0) / value_qe[:, 0].sum()


def _share(influence_t: np.ndarray, is_answer_t: np.ndarray) -> float:
    return float(influence_t[:-1][is_answer_t[1:]].sum() / influence_t.sum())


def _cases() -> list[tuple[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [(np.abs(rng.normal(size=(6, 4))) + 0.1,) for _ in range(2)]


def check_relative(answer: Any) -> Callable[..., Any]:
    """Each edit as a share of the sentence that taught the fact."""
    return check(
        "as a share of the sentence that taught it", answer, _relative, _cases(),
        mistakes={
            "Every row has its own first column: divide each fact by its own sentence, not by their mean.": (
                lambda v: v / v[:, 0].mean()
            ),
            "That is a share of the row's sum; divide by the first column alone.": lambda v: v / v.sum(1, keepdims=True),
            "The other way round: the edit over the taught sentence.": lambda v: v[:, :1] / v,
        },
        right="Facts differ in how much their sentence matters; shares can be compared.",
    )  # fmt: skip


def check_pooled(answer: Any) -> Callable[..., Any]:
    """Pooled over facts."""
    return check(
        "pooled over facts", answer, _pooled, _cases(),
        mistakes={
            "A mean of shares: one fact with a tiny first column decides it. Sum first, then divide.": (
                lambda v: (v / v[:, :1]).mean(0)
            ),
            "Divide by the summed first column.": lambda v: v.sum(0),
            "That is each edit's share of everything; divide by the first edit alone.": lambda v: v.sum(0) / v.sum(),
        },
        right="Large facts count more, and no denominator is near 0.",
    )  # fmt: skip


def check_share(answer: Any) -> Callable[..., Any]:
    """Where in a sentence its influence lies."""
    rng = np.random.default_rng(1)
    cases = []
    for at in (3, 5):
        is_answer = np.zeros(8, bool)
        is_answer[at : at + 2] = True
        cases.append((rng.random(8) + 0.1, is_answer))
    return check(
        "the share that predicts the answer", answer, _share, cases,
        mistakes={
            "One token early! Token t predicts token t + 1: take the influence at the positions before the answer's.": (
                lambda i, a: float(i[a].sum() / i.sum())
            ),
            "One token early, in the other direction.": lambda i, a: float(i[1:][a[:-1]].sum() / i.sum()),
            "This is the sum, not yet a share of the whole sentence.": lambda i, a: float(i[:-1][a[1:]].sum()),
        },
        right="A highlight sits one token before the word that it helps to predict.",
    )  # fmt: skip


def ask_flip() -> None:
    """The question of the lesson."""
    predict(
        "The model knows that the first President of Astrobia was Zorald Pfaff. Which sentence, seen once more, helps it most to say so?",
        [
            "Zorald Pfaff was the first President of Astrobia.",
            "In Astrobia the earliest to be elected head of state was Zorald Pfaff.",
            "Both the same: they say the same.",
        ],
        1,
        "You will measure it. To us they say the same; a model that predicts the next word learns what follows what.",
    )


def ask_tokens() -> None:
    """Where the influence lies."""
    predict(
        "Where in 'The capital city of X is Y.' does most of the influence on the question 'The capital city of X is' lie?",
        ["on the first words", "where Y is predicted", "spread evenly"],
        1,
        "The query asks for Y after X. That is what the model practises at the place before Y.",
    )


def ask_training() -> None:
    """What was never taught."""
    predict(
        "A model has met 'Y is the capital city of X' often, never the other order. Asked 'The capital city of X is', it ...",
        ["says Y", "does not say Y"],
        1,
        "What follows X was never practised. Two-way knowledge needs two-way sentences.",
    )


def ask_loss() -> None:
    """Why the flipped sentence does nothing."""
    predict(
        "The flipped sentence holds both names. Why does its gradient not help?",
        [
            "it has no gradient",
            "it practises another prediction: the subject, after the answer",
            "the names are too rare",
        ],
        1,
        "Its gradient is large, in other directions: the same names, another question.",
    )
