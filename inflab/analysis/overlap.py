"""Whether a query's list shares its words or its meaning (GB23 section 5.3.1: abstraction grows with scale)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from inflab.errors import CorpusError, NumericsError, SchemaError, SettingError
from inflab.schema import root_attrs, variable_attrs
from inflab.select import top
from inflab.wording import words

__all__ = ["overlap"]


def overlap(
    scores: xr.Dataset,
    queries: xr.Dataset,
    k: int = 50,
    *,
    embeddings: tuple[Any, Any] | None = None,
    stop: Iterable[str] = (),
) -> xr.Dataset:
    """How many of a query's words each of its most helpful sequences holds, beside what a random list would hold.

    Words are told apart without case (`inflab.wording.words`), and each counts once.

    Args:
        scores: `influence (query, train[, layer])` with the coordinate `text (train)`; layers are summed.
        queries: the queries, with the coordinate `text (query)`: prompt and completion. Matched by id.
        k: length of the list: positive influence, most helpful first.
        embeddings: vectors of the queries `(query, d)` and of the training sequences `(train, d)`, in the order of
            `queries` and of the scores; a DataArray with ids is matched by them.
        stop: words that do not count.

    Returns:
        Over `(query, rank)`: `lexical`, the share of the query's distinct words that the sequence holds, `shared`,
        how many; with `embeddings`, `semantic`, the cosine of the vectors; `is_ranked`, False where fewer sequences
        have positive influence (NaN and 0 there). Over `query`: `lexical_expected` and `semantic_expected`, the mean
        over all training sequences, what a random list would have; `words`, how many count (`lexical` is NaN where
        there is none).

    Raises:
        SchemaError: when a variable, a dim or `text` is missing.
        SettingError: when `k` is outside its domain, or embeddings are no pair of tables.
        CorpusError: when queries or embeddings do not fit the scores.
        NumericsError: when a vector is zero, NaN or infinite.
    """
    best = top(scores, k)
    for name, holder, dim in (("scores", scores, "train"), ("queries", queries, "query")):
        if "text" not in getattr(holder, "coords", ()) or holder["text"].dims != (dim,):
            raise SchemaError([
                f"/: coordinate 'text ({dim})' of {name} is missing; make the corpus with inflab.encode"
            ])
    row_q = _places(queries["query"].to_numpy(), scores["query"].to_numpy(), "query", "queries")
    ids_t = scores["train"].to_numpy()
    chosen_qr = _places(ids_t, best["train"].to_numpy().ravel(), "train", "scores").reshape(best["train"].shape)
    is_ranked_qr = best["is_ranked"].to_numpy()
    ignored = {word for one in _strings(stop) for word in words(one)}
    words_q = [sorted(set(words(str(text))) - ignored) for text in queries["text"].to_numpy()[row_q].tolist()]

    held_t = _held(scores["text"].to_numpy().tolist(), {word for one in words_q for word in one})
    documents = pd.Series([word for held in held_t for word in held], dtype=object).value_counts().to_dict()
    shared_qr = np.array([
        [len(held_t[place].intersection(own)) for place in row] for own, row in zip(words_q, chosen_qr, strict=True)
    ])
    shared_qr = np.where(is_ranked_qr, shared_qr, 0)
    n_q = np.array([len(own) for own in words_q])
    hits_q = np.array([sum(documents.get(word, 0) for word in own) for own in words_q]) / len(ids_t)
    with np.errstate(invalid="ignore"):
        lexical_qr = np.where(is_ranked_qr, shared_qr / n_q[:, None], np.nan)
        expected_q = hits_q / n_q
    dims = ("query", "rank")
    arrays: dict[str, Any] = {
        "lexical": (dims, lexical_qr, variable_attrs("lexical overlap", "1", "share of the query's words held")),
        "shared": (dims, shared_qr, variable_attrs("shared words", "1", "the query's distinct words that are held")),
        "lexical_expected": (
            "query", expected_q, variable_attrs("expected lexical overlap", "1", "mean over all training sequences")
        ),
        "words": ("query", n_q, variable_attrs("words", "1", "distinct words of the query that count")),
        "is_ranked": best["is_ranked"].variable,
    }  # fmt: skip
    if embeddings is not None:
        cosine_qt = _cosines(embeddings, scores["query"].to_numpy(), ids_t, row_q, queries.sizes["query"])
        semantic_qr = np.where(is_ranked_qr, np.take_along_axis(cosine_qt, chosen_qr, 1), np.nan)
        about = variable_attrs("cosine", "1", "of the vectors of query and sequence")
        arrays["semantic"] = (dims, semantic_qr, about)
        about = variable_attrs("expected cosine", "1", "mean over all training sequences")
        arrays["semantic_expected"] = ("query", cosine_qt.mean(1), about)
    return xr.Dataset(arrays, coords=best.coords, attrs={**scores.attrs, **root_attrs("overlap", k=int(k))})


def _strings(stop: Iterable[str]) -> list[str]:
    found = [] if isinstance(stop, str) else list(stop)
    if isinstance(stop, str) or not all(isinstance(one, str) for one in found):
        raise SettingError(f"stop={stop!r} is no list of words; give one such as ['the', 'of']")
    return found


def _held(texts: Sequence[Any], wanted: set[str]) -> list[set[str]]:
    """Which of the wanted words each text holds."""
    return [wanted.intersection(words(str(text))) for text in texts]


def _places(known: np.ndarray, wanted: np.ndarray, dim: str, whose: str) -> np.ndarray:
    place = pd.Index(known.tolist(), dtype=object).get_indexer(pd.Index(wanted.tolist(), dtype=object))
    if (place < 0).any():
        lost = wanted[place < 0].tolist()[0]
        raise CorpusError(f"{whose} has no {dim} {lost!r}; give those that the scores were made from")
    return np.asarray(place)


def _cosines(embeddings: Any, ids_q: np.ndarray, ids_t: np.ndarray, row_q: np.ndarray, n_query: int) -> np.ndarray:
    if not isinstance(embeddings, Sequence) or len(embeddings) != 2:
        raise SettingError(
            "embeddings is no pair; give (query vectors, training vectors), tables (query, d), (train, d)"
        )
    vector_qd = _unit("query", embeddings[0], ids_q, n_query, row_q)
    vector_td = _unit("train", embeddings[1], ids_t, len(ids_t), np.arange(len(ids_t)))
    if vector_qd.shape[1] != vector_td.shape[1]:
        sizes = f"{vector_qd.shape[1]} columns for queries, {vector_td.shape[1]} for training sequences"
        raise CorpusError(f"embeddings have {sizes}; give vectors of one model")
    cosine_qt: np.ndarray = vector_qd @ vector_td.T
    return cosine_qt


def _unit(dim: str, value: Any, ids: np.ndarray, n: int, rows: np.ndarray) -> np.ndarray:
    """Unit vectors in the order of the scores."""
    if isinstance(value, xr.DataArray) and dim in value.coords and value.ndim == 2:
        value = value.transpose(dim, ...)
        rows = _places(value[dim].to_numpy(), ids, dim, "embeddings")
        n = value.sizes[dim]
    vector = np.asarray(value, dtype=np.float64)
    if vector.ndim != 2 or len(vector) != n:
        raise CorpusError(f"embeddings of {dim} have shape {vector.shape}; give ({n}, d), a vector for each {dim}")
    vector = vector[rows]
    length = np.linalg.norm(vector, axis=1, keepdims=True)
    is_bad = ~(np.isfinite(length) & (length > 0))[:, 0]
    if is_bad.any():
        raise NumericsError(
            f"the embedding of {dim} {ids[is_bad].tolist()[0]!r} is zero, NaN or infinite; it has no cosine"
        )
    unit: np.ndarray = vector / length
    return unit
