"""The Python halves of the Explorer's parts, put together: who answers what, and what can be asked."""

from __future__ import annotations

from typing import Any

import numpy as np

from inflab.effects import predicts
from inflab.widgets.ask import Asking, OnNew
from inflab.widgets.base import Answers
from inflab.widgets.comparing import Comparing, is_fitted
from inflab.widgets.curvature import Curvature
from inflab.widgets.layer_profile import Layers
from inflab.widgets.lists import Lists
from inflab.widgets.payload import UNITS
from inflab.widgets.source import Source
from inflab.widgets.tail_plot import Tails
from inflab.widgets.token_view import Tokens
from inflab.widgets.what_if import WhatIf

__all__ = ["Panels", "offline", "summary"]

_OFFLINE = {"tokens", "nats"}


class Panels:
    """The parts that answer questions.

    Args:
        source: where the arrays come from.
        tokenizer: of the model, or None.
        recipe: how it was trained, or None.
        compare: another influence or its scores, or None.
        names: of the two.
        on_new: takes a question that was asked.
    """

    def __init__(
        self, source: Source, *, tokenizer: Any, recipe: Any, compare: Any, names: tuple[str, str], on_new: OnNew
    ) -> None:
        self.source = source
        self.lists = Lists(source, self._rescored)
        self.tokens, self.layers, self.tail = Tokens(source), Layers(source), Tails(source)
        self.curvature = Curvature(source)
        self.asking = Asking(source, tokenizer, source.index, on_new)
        self.what_if = WhatIf(source, recipe, tokenizer)
        self.comparing = None
        if compare is not None:
            other = compare.score(source.queries) if is_fitted(compare) else compare
            self.comparing = Comparing(source.scores, other, names)

    def answers(self) -> Answers:
        """Kind of question -> what answers it."""
        found: dict[str, Any] = {}
        for part in (
            self.lists, self.tokens, self.layers, self.tail, self.curvature, self.asking, self.what_if, self.comparing,
        ):  # fmt: skip
            found |= {} if part is None else part.answers()
        return found

    def can(self) -> list[str]:
        """What the front end may offer."""
        found = set(self.source.can)
        found |= {"nats"} if predicts(self.source.scores) else set()
        found |= {"curvature"} if self.curvature.spectrum()["layers"] else set()
        found |= {"compare"} if self.comparing is not None else set()
        return sorted(found)

    def _rescored(self, position: int, damping: float | None, layers: tuple[str, ...] | None) -> np.ndarray:
        """Scores of a query under another damping."""
        if layers is None:
            return self.curvature.under(position, damping)[0].to_numpy()
        return self.curvature.by_layer(position, damping).sel(layer=list(layers)).sum("layer").to_numpy()


def summary(source: Source, panels: Panels) -> dict[str, Any]:
    """What holds for all queries: how many, by which method, of how many training sequences, what can be asked."""
    scores = source.scores
    return {
        "n_query": len(source.ids),
        "n_train": int(source.attrs.get("n_train", scores.sizes["train"])),
        "method": str(source.attrs.get("method", "")),
        "units": UNITS if predicts(scores) else str(scores["influence"].attrs.get("units", "1")),
        "can": panels.can(),
        "offline": False,
    }


def offline(about: dict[str, Any]) -> dict[str, Any]:
    """What holds in a page without Python: what needs it cannot be asked."""
    return {**about, "can": sorted(_OFFLINE & set(about["can"])), "offline": True}
