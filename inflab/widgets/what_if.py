"""What if: documents were left out, or a sentence had been written otherwise.

The panel is `widgets/what_if.js`; here is what answers it. A removal is predicted to first order (`inflab.removal`)
and, where a recipe says how the model was trained, measured by training without the documents. An edited sentence is
scored as a corpus of its own, under the same curvature and damping.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr

import inflab
from inflab.corpus import encode
from inflab.effects import predicts, removal
from inflab.errors import CorpusError, SettingError
from inflab.progress import telling
from inflab.select import top
from inflab.widgets.asking import by_question, combine, live
from inflab.widgets.base import Answers, Progress
from inflab.widgets.payload import UNITS, clean, measure, plain

__all__ = ["WhatIf", "check_recipe"]

_STRONGEST = 8  # queries in the table of what a removal does to the batch
_FIRST = 8  # sequences of a sign to choose from
_NAMES = ("effect", "percent", "measured", "measured_se", "measured_percent")


def check_recipe(recipe: Any) -> None:
    """Refuse what no model can be trained by.

    Raises:
        SettingError: when it is neither None nor an `inflab.truth.Recipe`.
    """
    if recipe is not None and not isinstance(recipe, inflab.truth.Recipe):
        raise SettingError(
            f"recipe is a {type(recipe).__name__}; give an inflab.truth.Recipe, which says how the model was trained"
        )


class WhatIf:
    """Answers what would change.

    Args:
        source: of the Explorer.
        recipe: `inflab.truth.Recipe`, how the model was trained; None cannot retrain.
        tokenizer: the model's own; None cannot score an edited sentence.
    """

    def __init__(self, source: Any, recipe: Any = None, tokenizer: Any = None) -> None:
        self.source, self.recipe, self.tokenizer = source, recipe, tokenizer
        #: What was measured: `(trains, seeds)` -> of `inflab.truth.leave_out`.
        self.measured: dict[tuple[frozenset[Any], int], xr.Dataset] = {}

    def answers(self) -> Answers:
        """What the browser may ask."""
        return {
            "whatif.start": self.start,
            "whatif.find": self.find,
            "whatif.removal": self.removal,
            "whatif.retrain": self.retrain,
            "whatif.edit": self.edit,
        }

    def start(self, position: int) -> dict[str, Any]:
        """One query, the sequences at the ends of its list, and what can be asked of it.

        Returns:
            `query`, `candidates`, and in words why a removal, a retraining or an edit cannot be asked ("" when it can).
        """
        scores = self.source.scores
        row = scores.isel(query=[position])
        value, units = measure(row.isel(query=0))
        several = min(_FIRST, scores.sizes["train"])
        ends = [top(row, several, sign=sign).isel(query=0) for sign in ("positive", "negative")]
        ids = [one for end in ends for one in end["train"].to_numpy()[end["is_ranked"].to_numpy()]]
        return {
            "query": self._query(position),
            "candidates": self._described(value, ids),
            "units": units,
            "is_effect": units == UNITS,
            "why_not": {"removal": self._no_removal(), "retrain": self._no_retraining(), "edit": self._no_edit()},
        }

    def find(self, position: int, train: Any) -> dict[str, Any]:
        """A training sequence by its id, as it was typed or sent.

        Returns:
            Its id, value and text.
        """
        value, _ = measure(self.source.scores.isel(query=position))
        return self._described(value, self._ids([train]))[0]

    def removal(self, position: int, trains: Sequence[Any]) -> dict[str, Any]:
        """Predicted change when sequences are left out together, of one query and of the batch.

        Args:
            position: of the query that is shown.
            trains: ids of the sequences.

        Returns:
            `effect` (nat) and `percent` of the query; `batch`, the queries that change most, likewise.

        Raises:
            SettingError: when the method predicts no change.
        """
        if self._no_removal():
            raise SettingError(self._no_removal())
        ids = self._ids(trains)
        mine = self.source.scores.isel(train=self._places(ids))  # of a large matrix only these columns are read
        return self._removed(position, removal(mine, [ids]).isel(group=0), ids)

    def retrain(self, position: int, trains: Sequence[Any], seeds: int = 3, progress: Any = None) -> dict[str, Any]:
        """Train with and without the sequences (`inflab.truth.leave_out`), and lay what changed beside the prediction.

        Args:
            position: of the query that is shown.
            trains: ids of the sequences.
            seeds: trainings of each kind.
            progress: is told how far it is.

        Returns:
            As `removal`, with `measured`, `measured_se` (nat; None for one seed), `measured_percent`, `baseline` (nat)
            and `seconds`.

        Raises:
            SettingError: when there is no recipe, model or batch.
        """
        if why_not := self._no_removal() or self._no_retraining():
            raise SettingError(why_not)
        ids = self._ids(trains)
        scores, rows = self.source.scores, self._rows(position)
        is_asked = position >= self.source.queries.sizes["query"]
        queries = rows if is_asked else self.source.queries  # a question that was typed is measured alone
        began = time.perf_counter()
        key = (frozenset(ids), int(seeds))
        if key not in self.measured or not set(rows["query"].to_numpy()) <= set(self.measured[key]["query"].to_numpy()):
            with telling(progress or Progress()):
                corpus = self.source.influence.problem.corpus
                self.measured[key] = inflab.truth.leave_out(self.recipe, corpus, queries, [ids], seeds=seeds)
        measured = by_question(self.measured[key], self.source.ids)
        known = set(measured["query"].to_numpy())
        rows_known = [place for place, name in enumerate(self.source.ids) if name in known]
        mine = scores.isel(query=rows_known, train=self._places(ids))
        found = removal(mine, [ids], measured=measured).isel(group=0)
        baseline = measured["baseline"].mean("seed").sel(query=self.source.ids[position])
        return {
            **self._removed(position, found, ids),
            "seeds": int(seeds),
            "baseline": float(baseline),
            "seconds": time.perf_counter() - began,
        }

    def edit(self, position: int, train: Any, text: str, progress: Any = None) -> dict[str, Any]:
        """Influence of a training sequence as it is, and as it would be with another text.

        Args:
            position: of the query that is shown.
            train: id of the sequence.
            text: in its place.
            progress: is told how far it is.

        Returns:
            `original`, `edited`, `difference` in `units`, `log_probability` of both texts (nat; a text that the model
            finds unlikely has a larger gradient), and `note` in words ("" without one).

        Raises:
            SettingError: without a model or a tokenizer.
            CorpusError: when the text is empty or too long, or the sequence has none.
        """
        if why_not := self._no_edit():
            raise SettingError(why_not)
        influence = live(self.source, self.tokenizer, "an edit")
        (name,) = self._ids([train])
        before = str(self._column("text", [name])[0])
        text = clean(text)
        if not text.strip():
            raise CorpusError("the edited text is empty; leave the document out instead")
        both, note = self._edited(name, [before, text])
        rows = self._rows(position)
        with telling(progress or Progress()):
            scores = combine(influence.score(rows, train=both), self.source.ids[position])
        value, units = measure(scores.isel(query=0))
        again, edited = (float(one) for one in value.to_numpy())
        whole, _ = measure(self.source.scores.isel(query=position))
        original = float(whole.isel(train=self._places([name])[0]))
        if abs(again - original) > 1e-3 * max(abs(original), 1e-12) and not note:
            note = (
                f"the model met this sequence otherwise than its text alone encodes (that has {original:.3g}); both "
                "numbers are of the text alone"
            )
        return {
            "train": plain(name), "before": before, "text": text, "original": again, "edited": edited,
            "difference": edited - again, "units": units, "is_effect": units == UNITS, "note": note,
            "log_probability": _log_probabilities(influence, both),
        }  # fmt: skip

    def _rows(self, position: int) -> xr.Dataset:
        """The queries behind a position: one, or the two of a contrast."""
        found: xr.Dataset = self.source.measured(position)[0]
        return found

    def _edited(self, name: Any, texts: list[str]) -> tuple[xr.Dataset, str]:
        """The two texts as a corpus; of a sequence with a prompt only what follows the prompt is learned, as before."""
        ids = ["original", "edited"]
        prompt = str(self._column("prompt", [name])[0]) if "prompt" in self.source.scores.coords else ""
        if prompt and all(text.startswith(prompt) and len(text) > len(prompt) for text in texts):
            rest = [text[len(prompt) :] for text in texts]
            return encode([prompt] * 2, self.tokenizer, completions=rest, ids=ids), ""
        note = "the prompt was edited too, so every token counts as learned" if prompt else ""
        return encode(texts, self.tokenizer, ids=ids), note

    def _removed(self, position: int, found: xr.Dataset, ids: list[Any]) -> dict[str, Any]:
        """A removal of one group in plain values: the query that is shown, and those that change most."""
        value = np.nan_to_num(np.abs(found["effect"].to_numpy()))
        at = {name: place for place, name in enumerate(found["query"].to_numpy().tolist())}
        place_of = {name: place for place, name in enumerate(self.source.ids)}
        names = [name for name in _NAMES if name in found]

        def numbers(row: int) -> dict[str, Any]:
            return {name: plain(float(found[name].isel(query=row))) for name in names}

        strongest = np.argsort(-value, kind="stable")[:_STRONGEST]
        rows = [(place_of[found["query"].to_numpy()[row]], numbers(row)) for row in strongest.tolist()]
        return {
            "trains": [plain(one) for one in ids],
            **numbers(at[self.source.ids[position]]),
            "units": str(found["effect"].attrs["units"]),
            "is_contrast": self._is_contrast(position),
            "n_query": len(at),
            "batch": [{"position": place, **self._query(place), **own} for place, own in rows],
        }

    def _is_contrast(self, position: int) -> bool:
        return self.source.queries is not None and len(self.source.measured(position)[1]) > 1

    def _query(self, position: int) -> dict[str, Any]:
        row = self.source.scores.isel(query=position)

        def text(name: str) -> str:
            return clean(str(row[name].item())) if name in row.coords else ""

        prompt, completion = text("query_prompt"), text("query_completion")
        if not completion:  # the whole text was measured
            prompt, completion = "", text("query_text")
        return {"id": plain(self.source.ids[position]), "prompt": prompt, "completion": completion}

    def _described(self, value: xr.DataArray, ids: Sequence[Any]) -> list[dict[str, Any]]:
        numbers = value.isel(train=self._places(ids)).to_numpy().tolist()
        texts = self._column("text", ids) if "text" in self.source.scores.coords else [""] * len(ids)
        return [
            {"train": plain(one), "value": plain(float(number)), "text": clean(str(text))}
            for one, number, text in zip(ids, numbers, texts, strict=True)
        ]

    def _column(self, name: str, ids: Sequence[Any]) -> list[Any]:
        if name not in self.source.scores.coords:
            raise CorpusError(f"the training corpus has no coordinate {name!r}, so no sentence can be edited")
        found: list[Any] = self.source.scores[name].isel(train=self._places(ids)).to_numpy().tolist()
        return found

    def _ids(self, given: Sequence[Any]) -> list[Any]:
        """Ids of the corpus from what came as JSON or was typed; each once."""
        unknown = [one for one in given if str(one) not in self._known]
        if unknown:
            first = next(iter(self._known))
            raise CorpusError(f"no training sequence has the id {unknown[0]!r}; the first one is called {first!r}")
        if not given:
            raise CorpusError("no document is ticked; tick one or more")
        return list(dict.fromkeys(self._known[str(one)] for one in given))

    @cached_property
    def _known(self) -> dict[str, Any]:
        return {str(plain(name)): name for name in self.source.scores["train"].to_numpy().tolist()}

    def _places(self, ids: Sequence[Any]) -> np.ndarray:
        return np.asarray(self.source.scores.indexes["train"].get_indexer(list(ids)))

    def _no_removal(self) -> str:
        if predicts(self.source.scores):
            return ""
        method = self.source.attrs.get("method", "this method")
        return f"{method} ranks training sequences and predicts no change in nats; a method such as EK-FAC does"

    def _no_retraining(self) -> str:
        if self.source.influence is None or self.source.queries is None:
            return "Retraining needs the model and its corpus; this is a saved explanation."
        return "" if self.recipe is not None else "To retrain, pass recipe=: how the model was trained."

    def _no_edit(self) -> str:
        try:
            live(self.source, self.tokenizer, "an edit")
        except SettingError as error:
            return str(error)
        return ""


def _log_probabilities(influence: Any, corpus: xr.Dataset) -> list[float] | None:
    problem = getattr(influence, "problem", None)
    if problem is None or not hasattr(problem.task, "token_log_probability"):
        return None
    found: list[float] = inflab.log_probability(problem, corpus).sum("token").to_numpy().tolist()
    return found
