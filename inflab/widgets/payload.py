"""What travels to the browser: one query's lists, one pair's tokens; plain lists, strings and numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import xarray as xr

from inflab.select import effect
from inflab.widgets.source import SIGNS, Source

__all__ = ["clean", "page", "plain", "profile", "signed", "summary", "token_view"]

UNITS = "nat per added copy"
SNIPPET = 320  # characters of a sequence in a list; the token view holds the whole of it
_NO_METADATA = {"train", "rank", "text", "prompt", "completion", "query", "layer", "is_truncated"}


def summary(source: Source) -> dict[str, Any]:
    """What holds for all queries: how many, from which method, out of how many training sequences."""
    return {
        "n_query": len(source.ids),
        "n_train": int(source.attrs["n_train"]),
        "method": str(source.attrs.get("method", "")),
        "units": UNITS,
    }


def page(source: Source, position: int) -> dict[str, Any]:
    """One query with its two lists."""
    lists = {sign: source.ranked(position, sign) for sign in SIGNS}
    return {
        "position": position,
        "query": _query(lists["positive"], position, source.ids[position]),
        **{sign: _items(ranked) for sign, ranked in lists.items()},
    }


def token_view(source: Source, position: int, selected: dict[str, Any]) -> tuple[dict[str, Any], xr.Dataset]:
    """The tokens of one pair, summed over layers, and the labelled array they were read from.

    Args:
        source: gives the arrays.
        position: of the query.
        selected: `query`, `train`, `rank`, `sign`.

    Returns:
        What the browser shows, and the array over `(layer, token)`.
    """
    pair = source.tokens(position, selected["sign"], selected["rank"])
    value = effect(pair)["effect"]
    value = value.sum("layer") if "layer" in value.dims else value
    keep = np.flatnonzero(pair["is_text"].to_numpy())
    sent = {
        **selected,
        "text": [clean(str(text)) for text in pair["token_text"].to_numpy()[keep]],
        "effect": [plain(number) for number in value.to_numpy()[keep]],
    }
    return sent, pair


def profile(pair: xr.Dataset, selected: dict[str, Any]) -> dict[str, Any]:
    """The layer profile of one pair as SVG, with the inks to change on a dark page; {} when layers are not kept."""
    if "layer" not in pair["influence"].dims:
        return {}
    from inflab import plot  # altair takes seconds to import; the lists need not wait for it

    chart = plot.layer_profile(pair)
    return {**selected, "svg": plot.to_svg(chart), "dark": plot.DARK_INKS, "alt": str(chart.to_dict()["description"])}


def plain(value: Any) -> Any:
    """A number, text or truth value that JSON keeps: NaN is None, dates and other things are text."""
    value = value.item() if isinstance(value, np.generic) and not isinstance(value, np.datetime64) else value
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value if isinstance(value, (bool, int)) else clean(str(value))


def clean(text: str) -> str:
    """Text that UTF-8 can carry: a lone surrogate becomes the replacement character."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def signed(number: float | None) -> str:
    """Three significant digits, always with a sign, as the front end writes it: +0.120, −4.50×10⁻⁶."""
    if number is None or not math.isfinite(number):
        return "–"
    size = f"{abs(number):#.3g}".rstrip(".") if number else "0"
    if "e" in size:
        digits, exponent = size.split("e")
        size = f"{digits}×10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return ("−" if number < 0 else "+" if number > 0 else "") + size


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _query(ranked: xr.Dataset, position: int, query: Any) -> dict[str, Any]:
    def text(name: str) -> str:
        return clean(str(ranked[f"query_{name}"].item())) if f"query_{name}" in ranked.coords else ""

    prompt, completion = text("prompt"), text("completion")
    if not completion:  # the whole text was measured
        prompt, completion = "", text("text")
    hidden = {f"query_{name}" for name in _NO_METADATA}
    names = [str(n) for n, c in ranked.coords.items() if not c.dims and str(n).startswith("query_") and n not in hidden]
    meta = {clean(name.removeprefix("query_")): plain(ranked[name].to_numpy()[()]) for name in sorted(names)}
    return {"id": plain(query), "prompt": prompt, "completion": completion, "meta": meta}


def _items(ranked: xr.Dataset) -> list[dict[str, Any]]:
    """The sequences of a list; the metadata are every coordinate that came with the training corpus."""
    value, share = effect(ranked)["effect"].to_numpy(), ranked["share"].to_numpy()
    columns = {
        str(name): coord.to_numpy()
        for name, coord in sorted(ranked.coords.items(), key=lambda pair: str(pair[0]))  # a store keeps no order
        if coord.dims == ("rank",) and name not in _NO_METADATA
    }
    text: Iterable[Any] = ranked["text"].to_numpy() if "text" in ranked.coords else [""] * len(value)
    return [
        {
            "rank": int(rank),
            "train": plain(train),
            "effect": plain(number),
            "share": plain(part),
            "text": clean(snippet if len(snippet := str(whole)) <= SNIPPET else snippet[:SNIPPET] + "…"),
            "meta": {clean(name): plain(column[i]) for name, column in columns.items()},
        }
        for i, (rank, train, number, part, whole) in enumerate(
            zip(ranked["rank"].to_numpy(), ranked["train"].to_numpy(), value, share, text, strict=True)
        )
    ]
