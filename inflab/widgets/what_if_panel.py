"""What if, as a widget of its own."""

from __future__ import annotations

from typing import Any

import traitlets

from inflab.errors import SettingError
from inflab.widgets.base import Part
from inflab.widgets.opening import open_source
from inflab.widgets.what_if import WhatIf, check_recipe

__all__ = ["WhatIfPanel"]


class WhatIfPanel(Part):
    """What if, alone.

    Args:
        influence: a fitted Influence with its problem, or a saved explanation.
        queries: the query batch of an Influence.
        recipe: how the model was trained, to retrain.
        tokenizer: the model's own, to score edits.
        position: of the query that is shown.

    Raises:
        SettingError: when `position` is outside the batch.

    Example:
        >>> panel = inflab.widgets.WhatIfPanel(ekfac, queries, tokenizer=tokenizer)
        >>> panel.position
        0
    """

    part = "what_if"

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown. `int`, 0."""

    picks: traitlets.List[Any] = traitlets.List().tag(sync=True)
    """Ids of sequences to choose from, before those at the ends of the query's list. `list`, []."""

    def __init__(
        self, influence: Any, queries: Any = None, *, recipe: Any = None, tokenizer: Any = None, position: int = 0
    ) -> None:
        check_recipe(recipe)
        source = open_source(influence, queries, 1)
        if not 0 <= position < len(source.ids):
            raise SettingError(f"position={position!r} must lie between 0 and {len(source.ids) - 1}")
        self._what_if = WhatIf(source, recipe, tokenizer)
        super().__init__(self._what_if.answers(), position=position)
