"""The Explorer: step through queries, read the training sequences behind each, look into their tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets
import xarray as xr

from inflab.widgets import payload
from inflab.widgets.assets import asset_path
from inflab.widgets.fallback import as_html
from inflab.widgets.source import SIGNS, open_source

__all__ = ["Explorer"]


class Explorer(anywidget.AnyWidget):
    """Step through a batch of queries and see which training sequences made each completion more or less likely.

    The widget computes no influence: it asks a fitted `Influence` (scores once when it is made, the tokens of a list
    when it is first looked at), or reads a saved explanation, without torch.

    Args:
        source: a fitted `Influence`, or an explanation (`influence.explain(queries)`, `inflab.load(path)`).
        queries: the query batch of an `Influence` (`inflab.encode(..., dim="query")`); None for an explanation.
        k: longest list of each sign; a shorter one is shown when fewer sequences have that sign or were saved.
        position: query to begin with, counted from 0.

    Raises:
        SettingError: when `source` or `k` cannot be used, or `queries` goes with an explanation.
        CorpusError: when an `Influence` comes without a usable query batch.
        SchemaError: when an explanation breaks the schema; every violation is named.
        TraitError: when `position` is outside the batch.

    Example:
        >>> explorer = inflab.Explorer(inflab.load("explanation.zarr"))
        >>> explorer.position = 3
        >>> explorer.selected
        {'query': 3, 'train': 17, 'rank': 1, 'sign': 'positive'}
    """

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown, counted from 0. `int`, default 0. Set it to step."""

    selected = traitlets.Dict().tag(sync=True)
    """Which sequence is shown: `query` and `train` (ids), `rank` (from 1), `sign` ("positive", "negative"). `dict`,
    default the first of the list; {} when a query has none. Set `sign` and `rank` to pick one."""

    error = traitlets.Unicode("").tag(sync=True)
    """What went wrong last, in words, as shown in the widget. `str`, "" when nothing did."""

    _summary = traitlets.Dict().tag(sync=True)
    """What holds for all queries (`payload.summary`). `dict`, sent once."""

    _page = traitlets.Dict().tag(sync=True)
    """The query shown and its two lists (`payload.page`). `dict`."""

    _tokens = traitlets.Dict().tag(sync=True)
    """Tokens of the sequence shown (`payload.token_view`). `dict`."""

    _profile = traitlets.Dict().tag(sync=True)
    """Layer profile of the sequence asked for, as SVG (`payload.profile`). `dict`."""

    _asked = traitlets.Dict().tag(sync=True)
    """The sequence whose layer profile the browser waits for, as in `selected`, with a running `turn`. Drawing takes
    longer than everything else together, so it is asked for when the reader stays. `dict`, default {}."""

    def __init__(self, source: Any, queries: xr.Dataset | None = None, *, k: int = 10, position: int = 0) -> None:
        self._source = open_source(source, queries, k)
        self._k = int(k)
        self._places: dict[int, dict[str, Any]] = {}
        self._pair: xr.Dataset | None = None
        self._esm = asset_path("explorer.js").read_text("utf-8")
        self._css = asset_path("explorer.css").read_text("utf-8")
        super().__init__(position=position, _summary=payload.summary(self._source))
        self._show_page()
        self.observe(self._on_position, names="position")
        self.observe(self._on_selected, names="selected")
        self.observe(self._on_asked, names="_asked")

    @property
    def tokens(self) -> xr.Dataset | None:
        """Influence of the pair shown, over `(layer, token)`, nat per unit weight; None when a query has no list."""
        return self._pair

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """Take a change made in the browser. What fails is said in the widget: there, no cell shows a traceback."""
        try:
            if "position" in sync_data and "selected" in sync_data:
                # Sent together when the reader stepped on before the kernel had heard of the pick: the step is newer.
                here = payload.plain(self._source.ids[sync_data["position"]])
                if sync_data["selected"].get("query") != here:
                    sync_data = {name: value for name, value in sync_data.items() if name != "selected"}
            super().set_state(sync_data)
        except Exception as error:  # whatever it is, the reader must learn of it, and the widget go on
            self.error = _in_words(error)

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
        items = self._page[sign] if self._page["position"] == position else payload.page(self._source, position)[sign]
        found = next((item for item in items if item["rank"] == rank), None)
        if found is None:
            raise traitlets.TraitError(f"selected: rank={rank!r} must lie between 1 and {len(items)}")
        if "train" in wanted and wanted["train"] != found["train"]:
            raise traitlets.TraitError(
                f"selected: train={wanted['train']!r} is not at rank {rank}, {found['train']!r} is; leave train out"
            )
        query = payload.plain(self._source.ids[position])
        return {"query": query, "train": found["train"], "rank": rank, "sign": sign}

    def _position_of(self, wanted: dict[str, Any]) -> int:
        if "query" not in wanted:
            return self.position
        ids = [payload.plain(query) for query in self._source.ids]
        if wanted["query"] not in ids:
            raise traitlets.TraitError(f"selected: query={wanted['query']!r} is not an id of the batch")
        return ids.index(wanted["query"])

    def _on_position(self, change: Any) -> None:
        self.error = ""
        self._guard(self._show_page)

    def _on_selected(self, change: Any) -> None:
        wanted = self.selected
        if wanted and (position := self._position_of(wanted)) != self.position:
            self._places[position] = wanted
            self.position = position
        else:
            self.error = ""
            self._guard(self._show_tokens)

    def _on_asked(self, change: Any) -> None:
        self._guard(self._show_profile)

    def _guard(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self.error = _in_words(error)
            raise

    def _show_page(self) -> None:
        """Send the lists at once; the tokens may need a pass over the model, and follow."""
        position = self.position
        self._page = payload.page(self._source, position)
        query = payload.plain(self._source.ids[position])
        first = [(sign, self._page[sign][0]) for sign in SIGNS if self._page[sign]]
        default = {"query": query, "train": first[0][1]["train"], "rank": 1, "sign": first[0][0]} if first else {}
        wanted = self._places.get(position, default)
        if wanted != self.selected:
            self.selected = wanted
        self._show_tokens()

    def _show_tokens(self) -> None:
        selected = self.selected
        self._places[self.position] = selected
        if not selected:
            self._pair, self._tokens = None, {}
        elif not _shows(self._tokens, selected):
            self._tokens, self._pair = payload.token_view(self._source, self.position, selected)

    def _show_profile(self) -> None:
        selected = self.selected
        if (
            selected
            and _shows(self._asked, selected)
            and self._pair is not None
            and not _shows(self._profile, selected)
        ):
            self._profile = payload.profile(self._pair, selected)

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": as_html(self._source)}, metadata

    def __repr__(self) -> str:
        about = self._summary
        return f"Explorer({about['n_query']} queries, {about['n_train']:,} training sequences, k={self._k})"


def _shows(sent: dict[str, Any], selected: dict[str, Any]) -> bool:
    return {name: sent.get(name) for name in selected} == selected


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
