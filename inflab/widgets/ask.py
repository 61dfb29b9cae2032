"""Ask: a typed prompt and completion, or what the model says itself, answered from the index or by a pass.

The panel is `widgets/ask.js`; here is what answers it. Nothing is fitted again, and the model comes back as it was.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Literal, cast

import numpy as np
import xarray as xr

import inflab
from inflab.errors import SettingError
from inflab.progress import telling
from inflab.select import top
from inflab.widgets.asking import combine, encoded, fresh_id, live
from inflab.widgets.base import Answers, Part, Progress
from inflab.widgets.payload import UNITS, clean, measure, plain

__all__ = ["AskPanel", "Asking", "OnNew", "From"]

From = Literal["index", "pass"]
#: Takes a question's query batch (two rows for a contrast), its scores (one query), and where they are from; gives its
#: position in the batch that is shown, or None.
OnNew = Callable[[xr.Dataset, xr.Dataset, From], Any]

_FEW = 5  # sequences of each sign to read at once
_SNIPPET = 160  # characters
_KEPT = 8  # answers that wait to be kept


class Asking:
    """Answers questions typed in the Explorer.

    Args:
        source: of the Explorer: `influence` (None when saved arrays are read) and `ids`.
        tokenizer: the model's own; None answers nothing, with the reason.
        index: an `inflab.Index` of this influence, whose damping follows that of the source; None makes passes.
        on_new: is given each new question.
    """

    def __init__(self, source: Any, tokenizer: Any = None, index: Any = None, on_new: OnNew | None = None) -> None:
        self.source, self.tokenizer, self.index, self.on_new = source, tokenizer, index, on_new
        self._taken: set[str] = set()
        self._waiting: dict[str, tuple[xr.Dataset, xr.Dataset, From]] = {}

    def answers(self) -> Answers:
        """What the browser may ask."""
        return {
            "ask.start": self.start,
            "ask.complete": self.complete,
            "ask.score": self.score,
            "ask.contrast": self.contrast,
            "ask.keep": self.keep,
        }

    def start(self) -> dict[str, Any]:
        """Whether questions can be asked, and what answers them."""
        try:
            influence = live(self.source, self.tokenizer, "asking")
            problem = getattr(influence, "problem", None)
            index = self._index(influence)
        except Exception as error:  # the panel says why it is closed
            return {"why_not": str(error)}
        attrs = index.attrs if index is not None else {}
        corpus = getattr(problem, "corpus", None)
        return {
            "why_not": "",
            "n_train": int(corpus.sizes["train"]) if corpus is not None else None,
            "from": "index" if index is not None else "pass",
            "fidelity": attrs.get("fidelity"),
            "top_overlap": attrs.get("top_overlap"),
            "can_complete": problem is not None,
        }

    def complete(
        self, prompt: str, n_tokens: int = 20, temperature: float = 0.0, seed: int = 0, progress: Any = None
    ) -> dict[str, Any]:
        """Let the model go on from a prompt (`inflab.complete`).

        Args:
            prompt: what comes before.
            n_tokens: most tokens.
            temperature: 0 takes the likeliest token each time.
            seed: of the draws.
            progress: is told how far it is.

        Returns:
            `tokens` with text and log-probability, `stopped`, `seconds`.
        """
        influence = live(self.source, self.tokenizer, "asking")
        prompt, began = clean(prompt), time.perf_counter()
        with telling(progress or Progress()):
            found = inflab.complete(
                influence.problem, prompt, self.tokenizer, tokens=n_tokens, temperature=temperature, seed=seed
            )
        return {
            "prompt": prompt,
            "tokens": _tokens(found["token_text"], found["log_probability"]),
            "stopped": str(found.attrs["stopped"]),
            "seconds": time.perf_counter() - began,
        }

    def score(self, prompt: str, completion: str, keep: bool = True, progress: Any = None) -> dict[str, Any]:
        """Influence of every training sequence on a completion.

        Args:
            prompt: what comes before.
            completion: whose log-probability is measured.
            keep: whether it joins the query batch at once; False waits for `keep`.
            progress: is told how far it is.

        Returns:
            Id, log-probability, the first sequences of each sign, where it is from, seconds.
        """
        return self._ask(prompt, [completion], keep, progress)

    def contrast(self, prompt: str, first: str, second: str, keep: bool = True, progress: Any = None) -> dict[str, Any]:
        """Influence on how much likelier the first completion is than the second.

        Args:
            prompt: of both.
            first: what positive influence speaks for.
            second: what negative influence speaks for.
            keep: as of `score`.
            progress: is told how far it is.

        Returns:
            As of `score`, with the log-probability of both.
        """
        return self._ask(prompt, [first, second], keep, progress)

    def keep(self, id: str) -> dict[str, Any]:
        """Let a question that was answered join the query batch; one that the reader gave up never does.

        Returns:
            Its `id` and `position`.

        Raises:
            SettingError: when no such question waits.
        """
        if id not in self._waiting:
            raise SettingError(f"question {id!r} was not asked lately; ask it again")
        position = self.on_new(*self._waiting.pop(id)) if self.on_new is not None else None
        return {"id": id, "position": None if position is None else int(position)}

    def _ask(self, prompt: str, completions: Sequence[str], keep: bool, progress: Any) -> dict[str, Any]:
        influence = live(self.source, self.tokenizer, "asking")
        name = fresh_id({*map(str, self.source.ids), *self._taken})
        queries = encoded(influence, self.tokenizer, prompt, completions, name)
        index = self._index(influence)
        from_: From = "pass" if index is None else "index"
        began = time.perf_counter()
        with telling(progress or Progress()):
            scores = (influence if index is None else index).score(queries)
        scores = combine(scores, name)
        seconds = time.perf_counter() - began
        self._taken.add(name)
        self._waiting[name] = (queries, scores, from_)
        for old in list(self._waiting)[:-_KEPT]:
            del self._waiting[old]
        values, units = measure(scores)
        return {
            "id": name,
            "prompt": prompt,
            "completions": [self._said(influence, queries, row, text) for row, text in enumerate(completions)],
            "position": self.keep(name)["position"] if keep else None,
            "from": from_,
            "fidelity": plain(scores.attrs["fidelity"]) if "fidelity" in scores.attrs else None,
            "top_overlap": plain(scores.attrs["top_overlap"]) if "top_overlap" in scores.attrs else None,
            "n_train": int(values.sizes["train"]),
            "seconds": seconds,
            "units": units,
            "is_effect": units == UNITS,
            "positive": _first(scores, "positive"),
            "negative": _first(scores, "negative"),
        }

    def _said(self, influence: Any, queries: xr.Dataset, row: int, text: str) -> dict[str, Any]:
        """A completion with its log-probability, whole and by token; without, where the task writes no text."""
        problem = getattr(influence, "problem", None)
        if problem is None:
            return {"text": text, "log_probability": None, "tokens": []}
        mine = queries.isel(query=[row])
        value = inflab.log_probability(problem, mine).isel(query=0)
        is_target = mine["is_target"].isel(query=0).to_numpy()
        ids = mine["token_id"].isel(query=0).to_numpy()[is_target]  # padding need not be in the vocabulary
        pieces = mine["vocabulary_text"].sel(vocabulary=ids).to_numpy()
        tokens = _tokens(pieces, value.to_numpy()[is_target])
        return {"text": text, "log_probability": float(value.sum("token")), "tokens": tokens}

    def _index(self, influence: Any) -> Any:
        """The index under the influence's damping; None where there is none, or it has no other damping to give."""
        if self.index is None:
            return None
        settings = json.loads(influence.attrs["settings"])
        wanted = (float(settings["damping"]), str(settings["damping_kind"]))
        if wanted == (self.index.attrs["damping"], self.index.attrs["damping_kind"]):
            return self.index
        again = getattr(self.index, "with_damping", None)
        return again(*wanted) if again is not None else None


class AskPanel(Part):
    """Ask alone: questions to an Influence, without an Explorer.

    Args:
        influence: a fitted Influence with its problem.
        tokenizer: the model's own.
        index: an `inflab.Index` of it, for answers without a pass.

    Raises:
        SettingError: when `influence` cannot be asked, or the tokenizer is missing.

    Example:
        >>> inflab.widgets.AskPanel(ekfac, tokenizer).part
        'ask'
    """

    part = "ask"

    def __init__(self, influence: Any, tokenizer: Any, index: Any = None) -> None:
        if not callable(getattr(influence, "score", None)):
            raise SettingError(f"influence is a {type(influence).__name__}; give a fitted Influence")
        #: What was asked: `(queries, scores, "index" or "pass")` each.
        self.asked: list[tuple[xr.Dataset, xr.Dataset, From]] = []
        self._asking = Asking(SimpleNamespace(influence=influence, ids=[]), tokenizer, index, self._keep)
        live(self._asking.source, tokenizer, "asking")
        super().__init__(self._asking.answers())

    def _keep(self, queries: xr.Dataset, scores: xr.Dataset, from_: From) -> int:
        self.asked.append((queries, scores, from_))
        return len(self.asked) - 1

    def __repr__(self) -> str:
        return f"AskPanel({len(self.asked)} questions asked)"


def _tokens(text: Any, log_probability: Any) -> list[dict[str, Any]]:
    pairs = zip(np.asarray(text), np.asarray(log_probability), strict=True)
    return [{"text": clean(str(piece)), "log_probability": plain(float(value))} for piece, value in pairs]


def _first(scores: xr.Dataset, sign: Literal["positive", "negative"]) -> list[dict[str, Any]]:
    ranked = top(scores, min(_FEW, scores.sizes["train"]), sign=sign).isel(query=0)
    value, _ = measure(ranked)
    texts = ranked["text"].to_numpy() if "text" in ranked.coords else [""] * ranked.sizes["rank"]
    rows = zip(
        ranked["train"].to_numpy(), value.to_numpy(), ranked["share"].to_numpy(), map(str, texts),
        ranked["is_ranked"].to_numpy(), strict=True,
    )  # fmt: skip
    return [
        {
            "train": plain(train),
            "value": plain(cast("float", number)),
            "share": plain(share),
            "text": clean(text if len(text) <= _SNIPPET else text[:_SNIPPET] + "…"),
        }
        for train, number, share, text, is_ranked in rows
        if is_ranked
    ]
