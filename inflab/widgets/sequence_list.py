"""The ranked training sequences of each query, on their own: lists, filters, histogram, picks."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import traitlets
import xarray as xr

from inflab.effects import require
from inflab.errors import SettingError
from inflab.widgets import picks as written
from inflab.widgets.base import Part
from inflab.widgets.lists import Lists
from inflab.widgets.payload import plain, signed
from inflab.widgets.source import SIGNS
from inflab.widgets.stepper import checked_batch, within

__all__ = ["SequenceList"]

_STATIC_RANKS, _STATIC_CHARACTERS = 10, 160
_HEADINGS = {"positive": "Made it more likely", "negative": "Made it less likely"}


class SequenceList(Part):
    """All training sequences of a query in order of influence, both signs; filter, search, pin, annotate, export.

    Args:
        scores: `influence (query, train[, layer])` with the coordinates of both corpora; may be lazy: one query's row
            is read at a time. Coordinates over `train` with few values become filters, `text` can be searched.
        position: query to begin with, counted from 0.

    Raises:
        SchemaError: when `influence` or its dims are missing.
        CorpusError: when the scores hold no query.
        TraitError: when `position` is outside the batch.

    Example:
        >>> found = inflab.widgets.SequenceList(scores)
        >>> query, train = scores["query"].values[0], scores["train"].values[0]
        >>> found.picks = [{"query": query, "train": train, "note": "the same fact"}]
        >>> found.picks_table()["note"].tolist()
        ['the same fact']
    """

    part = "sequence_list"

    position = traitlets.Int(0).tag(sync=True)
    """Which query is shown, counted from 0. `int`, default 0."""

    selected = traitlets.Dict().tag(sync=True)
    """Which sequence is chosen: `query` and `train` (ids), `rank` (from 1, in the whole list of its sign), `sign`.
    `dict`, default {}. Set `train`, or `sign` and `rank`, to choose one; `query` to go to another."""

    picks = traitlets.List(traitlets.Dict()).tag(sync=True)
    """What was pinned: each `query` and `train` (ids) and `note` (text). `list`, default []."""

    text = traitlets.Unicode("").tag(sync=True)
    """What is searched for in the training set: words, or "a phrase". `str`, default ""."""

    facets = traitlets.Dict().tag(sync=True)
    """Labels to filter by: name -> list of the values kept. `dict`, default {}."""

    _count = traitlets.Int(0).tag(sync=True)
    """How many queries there are. `int`."""

    _page = traitlets.Dict().tag(sync=True)
    """The query shown and the first window of its lists (`Lists.page`). `dict`."""

    def __init__(self, scores: xr.Dataset, *, position: int = 0) -> None:
        require(scores, "influence", "query", "train")
        self._scores = _Scores(checked_batch(scores))
        self._lists = Lists(self._scores)
        super().__init__(self._lists.answers(), _count=len(self._scores.ids), position=position)
        self._show()
        self.observe(self._show, names="position")
        self.observe(self._go, names="selected")

    def picks_table(self) -> pd.DataFrame:
        """The picks as a data frame: query, train, sign, rank, effect, share, note, the whole text, and all labels."""
        return written.table(self._lists.picks(self.picks, whole=True))

    def picks_csv(self) -> str:
        """The picks as CSV. A text that begins like a formula (=, +, -, @, tab) gets an apostrophe in front."""
        return written.as_csv(self.picks_table())

    def picks_markdown(self) -> str:
        """The picks as a markdown table; markup in their texts stays text."""
        return written.as_markdown(self.picks_table())

    @traitlets.validate("position")
    def _check_position(self, proposal: dict[str, Any]) -> int:
        return within("position", int(proposal["value"]), len(self._scores.ids))

    @traitlets.validate("selected")
    def _check_selected(self, proposal: dict[str, Any]) -> dict[str, Any]:
        wanted: dict[str, Any] = proposal["value"]
        if not wanted:
            return {}
        position = self._position_of(wanted, "selected")
        sign, rank = wanted.get("sign"), wanted.get("rank")
        if "train" in wanted:
            item = self._known("selected", position, wanted["train"])
        elif sign in SIGNS and isinstance(rank, int):
            items = self._lists.ranking.window(position, sign, max(0, rank - 1), 1)["items"] if rank > 0 else []
            if not items:
                raise traitlets.TraitError(f"selected: rank={rank!r} is not in the {sign} list")
            item = {**items[0], "sign": sign}
        else:
            raise traitlets.TraitError(f"selected={wanted!r} needs train, or sign (one of {SIGNS}) and rank")
        query = plain(self._scores.ids[position])
        return {"query": query, "train": item["train"], "rank": item["rank"], "sign": item["sign"]}

    @traitlets.validate("picks")
    def _check_picks(self, proposal: dict[str, Any]) -> list[dict[str, Any]]:
        found = {}
        for pick in proposal["value"]:
            if "train" not in pick:
                raise traitlets.TraitError(f"picks: {pick!r} needs query and train, and may have a note")
            position = self._position_of(pick, "picks")
            query, train = plain(self._scores.ids[position]), self._known("picks", position, pick["train"])["train"]
            found[query, train] = {"query": query, "train": train, "note": str(pick.get("note", ""))}
        return list(found.values())

    @traitlets.validate("facets")
    def _check_facets(self, proposal: dict[str, Any]) -> dict[str, Any]:
        wanted: dict[str, Any] = proposal["value"]
        known = [facet["name"] for facet in self._lists.ranking.columns.facets()]
        for name, values in wanted.items():
            if name not in known or not isinstance(values, (list, tuple)):
                raise traitlets.TraitError(f"facets: {name!r}: {values!r}; give lists of values of {known}")
        return {name: [plain(value) for value in values] for name, values in wanted.items() if values}

    def _position_of(self, wanted: dict[str, Any], trait: str) -> int:
        if "query" not in wanted:
            return self.position
        ids = self._lists.ranking.ids
        if plain(wanted["query"]) not in ids:
            raise traitlets.TraitError(f"{trait}: query={wanted['query']!r} is not an id of the batch")
        return ids.index(plain(wanted["query"]))

    def _known(self, trait: str, position: int, train: Any) -> dict[str, Any]:
        try:
            return self._lists.ranking.look_up(position, plain(train))
        except SettingError as error:
            raise traitlets.TraitError(f"{trait}: {error}") from None

    def _show(self, change: Any = None) -> None:
        self._page = self._lists.page(self.position)

    def _go(self, change: Any) -> None:
        if self.selected:
            self.position = self._position_of(self.selected, "selected")

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
        bundle = super()._repr_mimebundle_(**kwargs)
        if bundle is None:
            return None
        data, metadata = bundle
        return {**data, "text/plain": repr(self), "text/html": _as_html(self._page)}, metadata

    def __repr__(self) -> str:
        n_query, n_train = len(self._scores.ids), len(self._lists.ranking.columns.trains)
        return f"SequenceList({n_query} queries, {n_train:,} training sequences, {len(self.picks)} picked)"


class _Scores:
    """Scores alone, as a source of ranks."""

    def __init__(self, scores: xr.Dataset) -> None:
        self._whole = scores
        self.ids: list[Any] = scores["query"].to_numpy().tolist()
        has_layers = "layer" in scores["influence"].dims
        summed = scores["influence"].sum("layer", keep_attrs=True) if has_layers else scores["influence"]
        self.scores = scores.assign(influence=summed)

    def by_layer(self, position: int) -> xr.DataArray:
        """Influence on one query over `(train, layer)`."""
        if "layer" not in self._whole["influence"].dims:
            raise SettingError("the scores were summed over layers; score with by='layer' to choose some")
        return self._whole["influence"].isel(query=position).transpose("train", "layer")


def _as_html(page: dict[str, Any]) -> str:
    """One query's first ranks, where widgets do not run. All text escaped."""
    query = page["query"]
    columns = []
    for sign in SIGNS:
        found = page[sign]
        lines = [
            f"<b>{signed(item['effect'])}</b> <i>{escape(str(item['train']))}</i> {_short(item['text'])}"
            for item in found["items"][:_STATIC_RANKS]
        ]
        columns.append("<br>".join(lines) or "none")
    units, predicts = page["positive"]["units"], page["positive"]["predicts"]
    heads = [_HEADINGS[sign] if predicts else f"{sign.capitalize()} score" for sign in SIGNS]
    head = "".join(
        f'<th scope="col">{text} ({page[sign]["of"]:,})</th>' for text, sign in zip(heads, SIGNS, strict=True)
    )
    cells = "".join(f'<td style="text-align:left;vertical-align:top">{cell}</td>' for cell in columns)
    return (
        f'<table class="inflab-sequence-list-static"><caption style="text-align:left">Training sequences by influence '
        f"({escape(units)}) on query {escape(str(query['id']))}: {_short(query['prompt'])}"
        f"<b>{_short(query['completion'])}</b></caption>"
        f"<thead><tr>{head}</tr></thead><tbody><tr>{cells}</tr></tbody></table>"
    )


def _short(text: str) -> str:
    return escape(text if len(text) <= _STATIC_CHARACTERS else text[: _STATIC_CHARACTERS - 1] + "…")
