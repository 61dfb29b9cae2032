"""The Explorer: step through queries, read the training sequences behind each, look into tokens, layers, curvature."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets
import xarray as xr

from inflab.errors import SettingError
from inflab.widgets import export, panels, picks
from inflab.widgets.base import Part, in_words
from inflab.widgets.comparing import check_other, checked_names
from inflab.widgets.fallback import as_html
from inflab.widgets.live import LiveSource
from inflab.widgets.opening import open_source
from inflab.widgets.ranking import Filter
from inflab.widgets.source import SIGNS, Source
from inflab.widgets.what_if import check_recipe

__all__ = ["Explorer"]


class Explorer(Part):
    """Step through a batch of queries and see which training sequences made each completion more or less likely.

    The widget computes no influence: it asks a fitted `Influence` (scores once when it is made, the tokens of a list
    when it is first looked at), or reads a saved explanation, without torch.

    Args:
        source: a fitted `Influence`, or an explanation (`influence.explain(queries)`, `inflab.load(path)`).
        queries: the query batch of an `Influence` (`inflab.encode(..., dim="query")`); None for an explanation.
        k: sequences of each sign whose tokens are read together when one of them is first looked at, and that
            `to_html` keeps. The lists themselves go through the whole training set.
        position: query to begin with, counted from 0.
        index: an index of the training corpus (`influence.index(path)`): typed questions and other dampings are
            answered from it, without a pass over the training data.
        tokenizer: of the model, for questions and sequences that are typed.
        recipe: how the model was trained (`inflab.truth.Recipe`): then the effect of leaving sequences out can be
            measured, by training again, beside the predicted one.
        compare: another `Influence`, asked the same queries, or its scores, to be shown beside this one.
        names: what to call the two.

    Raises:
        SettingError: when a setting cannot be used, or `queries` goes with an explanation.
        CorpusError: when an `Influence` comes without a usable query batch.
        SchemaError: when an explanation, or what it is compared with, breaks the schema; every violation is named.
        TraitError: when `position` is outside the batch.

    Example:
        >>> inflab.save(ekfac.explain(queries, k=5), "explanation.zarr")
        >>> explorer = inflab.Explorer(inflab.load("explanation.zarr"))
        >>> explorer.position = 2
        >>> sorted(explorer.selected)
        ['query', 'rank', 'sign', 'train']
    """

    part = "explorer"

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown, counted from 0. `int`, default 0. Set it to step."""

    selected = traitlets.Dict().tag(sync=True)
    """Which sequence is shown: `query` and `train` (ids), `rank` (from 1), `sign` ("positive", "negative"). `dict`,
    default the first of the list; {} when a query has none. Set `sign` and `rank` to pick one."""

    picks = traitlets.List(traitlets.Dict()).tag(sync=True)
    """The pinned sequences: `query` and `train` (ids), `note`. `list` of `dict`, default []; as a table: `picked`."""

    layers = traitlets.List(traitlets.Unicode()).tag(sync=True)
    """The layers by whose influence sequences are ranked. `list` of `str`, default []: all of them."""

    damping = traitlets.Float(None, allow_none=True).tag(sync=True)
    """The damping under which sequences are ranked, times each layer's mean eigenvalue. `float`, default None: that of
    the fit."""

    tab = traitlets.Unicode("tokens").tag(sync=True)
    """What is shown of the chosen sequence at first: "tokens", "pairs", "layers", "curvature", "tail", "ask", "whatif",
    "compare". `str`, default "tokens"."""

    _summary = traitlets.Dict().tag(sync=True)
    """What holds for all queries (`panels.summary`). `dict`."""

    _page = traitlets.Dict().tag(sync=True)
    """The query shown and the first window of its two lists (`lists.Lists.page`), and whether it is a `contrast` of two
    completions. `dict`."""

    _item = traitlets.Dict().tag(sync=True)
    """The sequence chosen, as a list has it. `dict`, {} when there is none."""

    def __init__(
        self,
        source: Any,
        queries: xr.Dataset | None = None,
        *,
        k: int = 10,
        position: int = 0,
        index: Any = None,
        tokenizer: Any = None,
        recipe: Any = None,
        compare: Any = None,
        names: tuple[str, str] = ("this", "the other"),
    ) -> None:
        if tokenizer is not None and not callable(tokenizer):
            raise SettingError(f"tokenizer is a {type(tokenizer).__name__}; give the model's tokenizer itself")
        check_recipe(recipe)
        if compare is not None:
            checked_names(names)
            check_other(compare)
        self._source: Source = open_source(source, queries, k, index)
        self._k = self._source.k
        self._places: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._panels = panels.Panels(
            self._source, tokenizer=tokenizer, recipe=recipe, compare=compare, names=names, on_new=self._on_new
        )
        self._lists = self._panels.lists
        own = {"list.find": self._find}
        super().__init__(
            {**self._panels.answers(), **own}, position=position, _summary=panels.summary(self._source, self._panels)
        )
        self._show_page()
        self.observe(self._on_position, names="position")
        self.observe(self._on_selected, names="selected")
        self.observe(self._on_ranking, names=["layers", "damping"])

    @property
    def tokens(self) -> xr.Dataset | None:
        """Influence of the pair shown, over `(layer, token)`, nat per unit weight; None when a query has no list."""
        if not self.selected:
            return None
        return self._source.tokens(self.position, self._train(self.selected["train"]))

    @property
    def scores(self) -> xr.Dataset:
        """`influence (query, train)` of all queries, those asked in the widget included."""
        return self._source.scores

    @property
    def picked(self) -> pd.DataFrame:
        """The pinned sequences as a table: query, train, sign, rank, effect, share, note, text, metadata."""
        return picks.table(self._lists.picks(self.picks, whole=True))

    def to_html(self, path: str | Path, *, title: str = "Influence explorer", progress: bool = True) -> None:
        """Write one file that steps, searches and shows tokens without kernel and network.

        It holds the first `k` sequences of each sign of every query, and their tokens, each number to 1/63 of the
        largest of its sequence. What needs Python (other layers and dampings, questions) is not in it.

        Args:
            path: the file; replaced when it exists.
            title: of the page.
            progress: whether to show a bar: the tokens of each query cost a pass over its lists.

        Raises:
            StoreError: when the file cannot be written.
        """
        packed = export.pack(self._source, self._lists, panels.offline(self._summary), progress=progress)
        export.write(export.page(packed, title), path)

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take a change made in the browser. What fails is said in the widget: there, no cell shows a traceback."""
        if "position" in sync_data and "selected" in sync_data:
            # Sent together when the reader stepped on before the kernel had heard of the pick: the step is newer.
            ids = self._lists.ranking.ids
            here = ids[sync_data["position"]] if 0 <= sync_data["position"] < len(ids) else None
            if sync_data["selected"].get("query") != here:
                sync_data = {name: value for name, value in sync_data.items() if name != "selected"}
        super().set_state(sync_data)

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        position, n_query = int(proposal["value"]), len(self._source.ids)
        if not 0 <= position < n_query:
            raise traitlets.TraitError(f"position={position} must lie between 0 and {n_query - 1}")
        return position

    @traitlets.validate("selected")
    def _check_selected(self, proposal: dict[str, Any]) -> dict[str, Any]:
        wanted: dict[str, Any] = proposal["value"]
        if not wanted:
            return {}
        position = self._position_of(wanted)
        sign, rank = wanted.get("sign"), wanted.get("rank")
        if sign not in SIGNS:
            raise traitlets.TraitError(f"selected: sign={sign!r} is not one of {SIGNS}")
        item = None
        if isinstance(rank, int) and rank >= 1:
            window = self._lists.ranking.window(position, sign, rank - 1, 1, self._filter())
            item = next(iter(window["items"]), None)
        if item is None:
            count = len(self._lists.ranking.places(position, sign, self._filter()))
            raise traitlets.TraitError(f"selected: rank={rank!r} must lie between 1 and {count}")
        if "train" in wanted and wanted["train"] != item["train"]:
            raise traitlets.TraitError(
                f"selected: train={wanted['train']!r} is not at rank {rank}, {item['train']!r} is; leave train out"
            )
        return {"query": self._lists.ranking.ids[position], "train": item["train"], "rank": rank, "sign": sign}

    @traitlets.validate("layers")
    def _check_layers(self, proposal: dict[str, Any]) -> list[str]:
        if proposal["value"] and "layers" not in self._source.can:
            raise traitlets.TraitError("layers: this explanation has layers summed; make it with explain(by='layer')")
        return list(proposal["value"])

    def _position_of(self, wanted: dict[str, Any]) -> int:
        if "query" not in wanted:
            return self.position
        ids = self._lists.ranking.ids
        if wanted["query"] not in ids:
            raise traitlets.TraitError(f"selected: query={wanted['query']!r} is not an id of the batch")
        return ids.index(wanted["query"])

    def _filter(self) -> Filter:
        return Filter(layers=tuple(self.layers) or None, damping=self.damping)

    def _place(self) -> tuple[Any, ...]:
        return (self.position, tuple(self.layers), self.damping)

    def _on_position(self, change: Any) -> None:
        self.error = ""
        self._guard(self._show_page)

    def _on_ranking(self, change: Any) -> None:
        self._guard(self._show_page)

    def _on_selected(self, change: Any) -> None:
        wanted = self.selected
        if wanted and (position := self._position_of(wanted)) != self.position:
            self._places[(position, *self._place()[1:])] = wanted
            self.position = position
        else:
            self._guard(self._show_item)

    def _on_new(self, queries: xr.Dataset, scores: xr.Dataset, where: str) -> int:
        """A question that was typed joins the batch; of two rows, the second is held against the first."""
        weights = (1.0,) if queries.sizes["query"] == 1 else (1.0, -1.0)
        assert isinstance(self._source, LiveSource)  # saved arrays are asked nothing
        position = self._source.add(queries, scores, weights)
        self._summary = panels.summary(self._source, self._panels)
        return position

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.error = in_words(error)
            raise

    def _show_page(self) -> None:
        position, kept = self.position, self._filter()
        self._page = {**self._lists.page(position, kept), "contrast": self._is_contrast(position)}
        query = self._lists.ranking.ids[position]
        first = [(sign, self._page[sign]["items"][0]) for sign in SIGNS if self._page[sign]["items"]]
        default = {"query": query, "train": first[0][1]["train"], "rank": 1, "sign": first[0][0]} if first else {}
        wanted = self._places.get(self._place(), default)
        if wanted != self.selected:
            self.selected = wanted
        self._show_item()

    def _is_contrast(self, position: int) -> bool:
        return isinstance(self._source, LiveSource) and len(self._source.measured(position)[1]) > 1

    def _show_item(self) -> None:
        selected = self.selected
        self._places[self._place()] = selected
        if not selected:
            self._item = {}
            return
        window = self._lists.ranking.window(
            self.position, selected["sign"], selected["rank"] - 1, 1, self._filter()
        )  # fmt: skip
        self._item = window["items"][0]

    def _find(self, position: int, train: Any) -> dict[str, Any] | None:
        """Where a sequence stands in the ranking shown."""
        place = self._lists.ranking.columns.place_of.get(train)
        for sign in SIGNS:
            found = np.flatnonzero(self._lists.ranking.places(position, sign, self._filter()) == place)
            if len(found):
                query = self._lists.ranking.ids[position]
                return {"query": query, "train": train, "rank": int(found[0]) + 1, "sign": sign}
        return None

    def _train(self, sent: Any) -> Any:
        """The id of the corpus that the browser knows as `sent`."""
        place = self._lists.ranking.columns.place_of[sent]
        return self._source.scores["train"].to_numpy().tolist()[place]

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": as_html(self._lists, self._summary)}, metadata

    def __repr__(self) -> str:
        about = self._summary
        return f"Explorer({about['n_query']} queries, {about['n_train']:,} training sequences, k={self._k})"
