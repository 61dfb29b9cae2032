"""The Explorer as one file that needs no kernel and no network: its arrays packed, the same front end beside them.

What is packed: the first `k` sequences of each sign of every query, and the tokens of each. Effects of tokens are
kept as whole numbers up to 63 with one scale a pair, tokens as numbers in a shared vocabulary, all of it compressed
(gzip) and written as base64. A content security policy forbids the page to ask anybody for anything.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from inflab.errors import StoreError
from inflab.widgets import payload
from inflab.widgets.assets import module, styles
from inflab.widgets.lists import Lists
from inflab.widgets.source import SIGNS, Sign, Source

__all__ = ["pack", "page", "write"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 0 auto; padding: 12px; max-width: 1400px; background: Canvas; color: CanvasText; }}
h1 {{ margin: 4px 2px 10px; font: 600 17px system-ui, sans-serif; }}
{css}
</style>
</head>
<body>
<main>
<h1>{title}</h1>
<div id="explorer"><noscript>This page needs JavaScript, which it carries with it; nothing is fetched.</noscript></div>
</main>
<script type="application/octet-stream" id="packed">{data}</script>
<script type="module">
{esm}
openPacked(document);
</script>
</body>
</html>
"""
LEVELS = 63  # 7 bits: the eye tells fewer shades apart, and more would make a file of twice the size


def pack(source: Source, lists: Lists, summary: dict[str, Any], *, progress: bool = True) -> bytes:
    """The arrays of a page.

    Args:
        source: gives the tokens.
        lists: rank the sequences and know their texts.
        summary: what holds for all queries.
        progress: whether to show a bar.

    Returns:
        Compressed: length of the header (4 bytes, little endian), header (JSON), sections one after the other.
    """
    trains: dict[Any, int] = {}
    held: list[dict[str, Any]] = []
    pieces: list[np.ndarray] = []
    vocabulary: dict[str, int] = {}
    columns: dict[str, list[Any]] = {name: [] for name in ("train", "effect", "share", "scale", "heat")}
    counts: list[dict[str, list[int]]] = []
    for position in tqdm(range(len(source.ids)), desc="page", unit="query", disable=not progress):
        own: dict[str, list[int]] = {}
        for sign in SIGNS:
            items = _items(lists, position, sign, source.ranked(position, sign).sizes["rank"])
            n = len(items)
            own[sign] = [n]
            if not n:
                continue
            tokens = source.listed(position, sign) if "tokens" in source.can else None
            is_text = np.zeros((n, 0), bool) if tokens is None else tokens["is_text"].to_numpy()
            text = None if tokens is None else tokens["token_text"].to_numpy()
            heat = np.zeros((n, 0)) if tokens is None else _summed(tokens)
            for row, item in enumerate(items):
                train = item["train"]
                if train not in trains:
                    trains[train] = len(held)
                    shown = [] if text is None else [payload.clean(str(t)) for t in text[row][is_text[row]]]
                    joined = "".join(shown)
                    whole = lists.ranking.columns.texts[lists.ranking.columns.place_of[train]]
                    held.append({"id": train, "meta": item["meta"], **({} if joined == whole else {"text": whole})})
                    numbers = [vocabulary.setdefault(piece, len(vocabulary)) for piece in shown]
                    pieces.append(np.array(numbers, np.uint32))
                value = heat[row][is_text[row]]
                scale = float(np.nanmax(np.abs(value), initial=0.0))
                codes = np.zeros(len(value), np.int8)
                if scale > 0:
                    codes = np.rint(np.nan_to_num(value) / scale * LEVELS).astype(np.int8)
                columns["train"].append(trains[train])
                columns["effect"].append(np.nan if item["effect"] is None else item["effect"])
                columns["share"].append(np.nan if item["share"] is None else item["share"])
                columns["scale"].append(scale)
                columns["heat"].append(codes)
        counts.append(own)
    sections = {
        "train": np.array(columns["train"], np.uint32), "effect": np.array(columns["effect"], np.float32),
        "share": np.array(columns["share"], np.float32), "scale": np.array(columns["scale"], np.float32),
        "length": np.array([len(p) for p in pieces], np.uint32),
        "piece": np.concatenate([*pieces, np.zeros(0, np.uint32)]).astype(
            np.uint16 if len(vocabulary) < 2**16 else np.uint32
        ),
        "heat": np.concatenate([*columns["heat"], np.zeros(0, np.int8)]),
    }  # fmt: skip
    cards = [lists.queries.card(position) for position in range(len(source.ids))]
    places, start = {}, 0
    for name, values in sections.items():
        places[name] = [start, len(values), values.dtype.name]
        start += -(-values.nbytes // 4) * 4  # typed arrays begin at multiples of their size
    header = {
        "summary": summary, "queries": cards, "counts": counts, "trains": held, "vocabulary": list(vocabulary),
        "sections": places, "levels": LEVELS,
        "bins": [lists.histogram(position) for position in range(len(source.ids))],
    }  # fmt: skip
    raw = json.dumps(payload.sendable(header), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    raw += b" " * (-len(raw) % 4)
    body = b"".join(values.tobytes() + b"\0" * (-values.nbytes % 4) for values in sections.values())
    return gzip.compress(len(raw).to_bytes(4, "little") + raw + body, 9, mtime=0)


def page(packed: bytes, title: str) -> str:
    """One HTML file.

    Args:
        packed: of `pack`.
        title: of the page; escaped.

    Returns:
        Its text.
    """
    data = base64.b64encode(packed).decode("ascii")
    return _PAGE.format(
        policy=escape(_POLICY), title=escape(title), css=styles("offline"), data=data, esm=module("offline")
    )


def write(text: str, path: str | Path) -> None:
    """Write a file, complete or not at all.

    Args:
        text: of the file.
        path: where; replaced when it exists.

    Raises:
        StoreError: when it cannot be written.
    """
    target = Path(path)
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_text(text, encoding="utf-8")
        unfinished.replace(target)
    except OSError as error:
        raise StoreError(f"path={str(path)!r} cannot be written: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            unfinished.unlink()


def _items(lists: Lists, position: int, sign: Sign, k: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while len(found) < k:
        window = lists.ranking.window(position, sign, len(found), k - len(found))["items"]
        if not window:
            break
        found += window
    return found


def _summed(tokens: Any) -> np.ndarray:
    """Effect of each token, layers summed."""
    value, _ = payload.measure(tokens)
    value = value.sum("layer") if "layer" in value.dims else value
    return np.asarray(value.transpose("rank", "token").to_numpy(), np.float64)
