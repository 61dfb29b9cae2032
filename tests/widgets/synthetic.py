"""Arrays that follow the schema, without a model: what an explanation of invented text looks like."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from inflab.schema import influence_attrs, root_attrs, variable_attrs
from inflab.select import top

ROLES = ("mlp.c_fc", "mlp.c_proj")
NAMES = ("Zorald Pfaff", "Mira Quell", "Odo Brask", "Lune Tavi", "Perrin Ashe", "Yara Holm")
PLACES = ("Astrobia", "Gleem", "Norvik", "Talmora", "Quessia", "Brellin")


def attrs(kind: str, n_train: int) -> dict[str, Any]:
    """Root attrs of a result."""
    return root_attrs(
        kind, method="EKFAC", settings="{}", model_fingerprint="0" * 16, corpus_fingerprint="1" * 16,
        n_train=n_train, seed=0,
    )  # fmt: skip


def corpus(n: int, dim: str) -> xr.Dataset:
    """Sentences, a facts model's corpus in the small; as queries, split into prompt and completion."""
    prompts = [f"The president of {PLACES[i % 6]}{'' if i < 6 else f' {i // 6}'} was" for i in range(n)]
    completions = [f" {NAMES[i % 6]}." for i in range(n)]
    pieces = [_pieces(p + c) for p, c in zip(prompts, completions, strict=True)]
    words = sorted({piece for row in pieces for piece in row})
    token_id = np.zeros((n, max(map(len, pieces))), np.int32)
    is_text = np.zeros(token_id.shape, bool)
    for i, row in enumerate(pieces):
        token_id[i, : len(row)] = [words.index(piece) for piece in row]
        is_text[i, : len(row)] = True
    coords: dict[str, Any] = {
        dim: np.array([f"{dim[0]}{i}" for i in range(n)], dtype=object),
        "vocabulary": np.arange(len(words)),
    }
    coords["text"] = (dim, np.array([p + c for p, c in zip(prompts, completions, strict=True)], dtype=object))
    if dim == "query":
        coords["prompt"] = (dim, np.array(prompts, dtype=object))
        coords["completion"] = (dim, np.array(completions, dtype=object))
    coords["token"] = np.arange(token_id.shape[1])
    coords["source"] = (dim, np.array([("almanac", "letters", "archive")[i % 3] for i in range(n)], dtype=object))
    coords["year"] = (dim, 1900 + np.arange(n))
    described = variable_attrs("mask", "1", "True where it holds")
    return xr.Dataset(
        {
            "token_id": ((dim, "token"), token_id, variable_attrs("token id", "1", "index")),
            "is_text": ((dim, "token"), is_text, described),
            "is_target": ((dim, "token"), is_text, described),
            "vocabulary_text": (
                "vocabulary", np.array(words, dtype=object), variable_attrs("token text", "1", "readable piece")
            ),
        },
        coords=coords,
        attrs=root_attrs("corpus"),
    )  # fmt: skip


def _pieces(text: str) -> list[str]:
    """Words with their leading space; a full stop is its own piece, followed by a newline."""
    found = [word if i == 0 else f" {word}" for i, word in enumerate(text.rstrip(".").split(" "))]
    return [*found, ".", "\n"]


class FakeInfluence:
    """Answers like a fitted method, from random numbers; counts what it is asked."""

    def __init__(self, n_train: int = 40, n_block: int = 4, seed: int = 0) -> None:
        self.train = corpus(n_train, "train")
        self.n_block, self.seed = n_block, seed
        self.scored = 0
        self.attributed: list[tuple[list[str], list[int]]] = []
        self.fails = ""

    def score(
        self, queries: xr.Dataset, *, by: Any = (), train: xr.Dataset | None = None, progress: bool = True
    ) -> xr.Dataset:
        """Influence with a heavy tail, of both signs; the sequence of the same place is first."""
        if train is not None:
            return self._edited(queries, train)
        self.scored += 1
        rng = np.random.default_rng(self.seed)
        n_train = self.train.sizes["train"]
        # A query gets the same scores alone and in a batch: its row of the largest batch, by its id.
        rows = [int(str(name)[1:]) if str(name)[1:].isdigit() else 0 for name in queries["query"].to_numpy()]
        value = rng.standard_t(2, (max(rows) + 1, n_train)) * 2
        value[np.arange(len(value)), np.arange(len(value)) % n_train] = 60 + np.arange(len(value))
        coords = {str(name): c.variable for name, c in self.train.coords.items() if c.dims == ("train",)}
        coords |= {
            str(name) if name == "query" else f"query_{name}": c.variable
            for name, c in queries.coords.items()
            if c.dims == ("query",)
        }
        value = value[rows]
        dims: tuple[str, ...] = ("query", "train")
        if by == "layer":
            weight = np.random.default_rng(1).dirichlet(np.ones(2 * self.n_block), size=value.shape)
            value, dims = value[..., None] * weight, (*dims, "layer")
            coords |= self._layer_coords()
        variables = {"influence": (dims, value.astype(np.float32), influence_attrs("influence"))}
        return xr.Dataset(variables, coords=coords, attrs=attrs("scores", n_train))

    def _edited(self, queries: xr.Dataset, train: xr.Dataset) -> xr.Dataset:
        """Other sequences: a number from their text, so that an edit changes it."""
        text = [str(t) for t in train["text"].to_numpy()]
        value = np.array([[sum(map(ord, t)) % 97 - 40.0 for t in text]] * queries.sizes["query"], np.float32)
        coords = {"query": queries["query"].variable, "train": train["train"].variable, "text": ("train", text)}
        return xr.Dataset(
            {"influence": (("query", "train"), value, influence_attrs("influence"))},
            coords=coords, attrs=attrs("scores", self.train.sizes["train"]),
        )  # fmt: skip

    def _layer_coords(self) -> dict[str, Any]:
        layer = [f"transformer.h.{b}.{role}" for b in range(self.n_block) for role in ROLES]
        return {
            "layer": np.array(layer, dtype=object),
            "block": ("layer", np.repeat(np.arange(self.n_block), 2)),
            "role": ("layer", np.array(ROLES * self.n_block, dtype=object)),
            "kind": ("layer", np.array(["Conv1D"] * len(layer), dtype=object)),
        }

    def attribute(
        self, queries: xr.Dataset, top: xr.Dataset, *, view: str = "update", pairs: bool = False, progress: bool = True
    ) -> xr.Dataset:
        """Each pair's influence, dealt out at random over layers and tokens."""
        assert set(top["query"].to_numpy()) <= set(queries["query"].to_numpy())
        self.attributed.append((list(top["query"].to_numpy()), list(top["rank"].to_numpy())))
        if self.fails:
            raise ValueError(self.fails)
        place = self.train.indexes["train"].get_indexer(top["train"].to_numpy().ravel())
        chosen = self.train.isel(train=place)
        shape = (*top["train"].shape, 2 * self.n_block, self.train.sizes["token"])
        is_text = chosen["is_text"].to_numpy().reshape(*shape[:2], shape[-1])
        rng = np.random.default_rng(abs(hash(tuple(place.tolist()))) % 1000)
        weight = rng.normal(0.3, 1, shape) * is_text[:, :, None]
        weight /= weight.sum((2, 3), keepdims=True)
        value = weight * top["influence"].to_numpy()[:, :, None, None]
        coords: dict[str, Any] = {str(n): c.variable for n, c in top.coords.items() if c.dims}
        coords |= {**self._layer_coords(), "token": np.arange(shape[-1])}
        if view != "update":
            value = value.sum(2)[:, :, ::-1]  # another view: no layers, other numbers
        dims_of: tuple[str, ...] = ("query", "rank", *(("layer",) if view == "update" else ()), "token")
        if pairs:
            n_query_token = queries.sizes["token"]
            deal = rng.dirichlet(np.ones(n_query_token), size=value.shape)
            value, dims_of = value[..., None] * deal, (*dims_of, "query_token")
            coords["query_token"] = np.arange(n_query_token)
        if view != "update":
            coords = {n: c for n, c in coords.items() if n not in self._layer_coords()}
        pieces = self.train["vocabulary_text"].to_numpy()[chosen["token_id"].to_numpy()].reshape(is_text.shape)
        dims = ("query", "rank", "token")
        variables = {
            "influence": (dims_of, value.astype(np.float32), influence_attrs("share")),
            "is_text": (dims, is_text, variable_attrs("is text", "1", "True where text")),
            "token_text": (dims, np.where(is_text, pieces, "").astype(object),
                           variable_attrs("token text", "1", "readable piece")),
        }  # fmt: skip
        return xr.Dataset(variables, coords=coords, attrs=attrs("tokens", self.train.sizes["train"]))


def explanation(n_query: int = 3, n_train: int = 40, k: int = 5, seed: int = 0) -> xr.DataTree:
    """What `Influence.explain` returns."""
    influence = FakeInfluence(n_train, seed=seed)
    queries = corpus(n_query, "query")
    scores = influence.score(queries)
    best, worst = (top(scores, k, sign=sign) for sign in ("positive", "negative"))
    root = xr.Dataset(attrs=attrs("explanation", n_train))
    return xr.DataTree.from_dict({
        "/": root, "scores": scores, "top": best, "bottom": worst,
        "top_tokens": influence.attribute(queries, best), "bottom_tokens": influence.attribute(queries, worst),
    })  # fmt: skip
