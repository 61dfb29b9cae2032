"""The candidate filter: the few training sequences of each query that are worth a gradient (GB23 section 3.2.2).

A query is compared with every document cheaply, and only the closest ones are scored. With C documents, n_t of which
hold the term t, tf_td times each, and documents of L_d terms,

    IDF_t  = log((C - n_t + 1/2) / (n_t + 1/2) + 1)                                             (GB23 eq. 29)
    TF-IDF = sum over the query's terms of IDF_t [tf_td > 0]                                    (GB23 eq. 28)
    BM25   = sum over the query's terms of IDF_t (k1 + 1) tf_td / (tf_td + k1 (1 - b + b L_d / mean L))

Eq. 28 is BM25 at k1 = 0. A term that the query repeats counts as often. Reads labelled arrays only; no torch.
"""

# bm25s 0.3 was weighed for this. It loops over documents in Python (9 times the processor time of this room for 10
# queries and 100,000 documents), fails on ids with gaps, breaks ties in no fixed order, and sets a log level at
# import. The tests hold these scores against its own.

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd
import xarray as xr
from scipy import sparse
from tqdm.auto import tqdm

from inflab.corpus import check_ids, corpus_dim, fingerprint
from inflab.errors import CorpusError, SettingError, check_count, is_finite_number
from inflab.labels import query_coords, train_coords
from inflab.schema import root_attrs, variable_attrs

__all__ = ["filter_candidates"]

_CELLS = 2**23  # numbers in one block of documents: 64 MB in float64
_WORD = re.compile(r"\w+")
_WORDS = 128  # words of a text, as far as the size of a block goes

#: Rows of a corpus -> the column of each of their terms in one row after another (-1: in no query), terms of each row.
_Reader: TypeAlias = Callable[[xr.Dataset, slice], tuple[np.ndarray, np.ndarray]]
#: Blocks of documents in order: the position of the first, and the similarities `(document, query)`.
_Blocks: TypeAlias = Iterator[tuple[int, np.ndarray]]


def filter_candidates(
    queries: xr.Dataset,
    train: xr.Dataset,
    k: int = 10_000,
    *,
    by: Literal["bm25", "tfidf", "embedding"] = "bm25",
    on: Literal["tokens", "words"] = "tokens",
    k1: float = 1.5,
    b: float = 0.75,
    train_embeddings: np.ndarray | xr.DataArray | None = None,
    query_embeddings: np.ndarray | xr.DataArray | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """The `k` training sequences that resemble each query most, for `Influence.score` and `Influence.attribute`.

    What a filter leaves out is never scored: the words of a document need not be those of a query it influences.

    Args:
        queries: a corpus over `query`; the whole text counts, prompt and completion.
        train: a corpus over `train`.
        k: how many candidates a query keeps; the whole training set where that has fewer.
        by: "bm25" (Okapi's), "tfidf" (the paper's, GB23 eqs. 28 and 29), or "embedding" (cosine).
        on: the terms of "bm25" and "tfidf": "tokens" (ids where `is_text`), or "words" (of the coordinate `text`, in
            lower case). Embeddings have no terms.
        k1: how late repetitions in a document saturate, not negative; for "bm25".
        b: how much long documents are held back, from 0 to 1; for "bm25".
        train_embeddings: `(train, d)`. A `DataArray` with ids as its coordinate `train` is matched by id.
        query_embeddings: `(query, d)`.
        progress: whether to show progress bars.

    Returns:
        A dataset over `(query, rank)`, rank counted from 1: `similarity` ("1", largest first, ties in the order of
        `train`) and `is_ranked`, False where fewer than `k` sequences have a positive similarity (NaN there). The
        coordinate `train (query, rank)` names the sequences; every other training coordinate is gathered beside it.

    Raises:
        CorpusError: when a corpus lacks what the filter reads, or embeddings do not fit the corpora.
        SettingError: when a setting is outside its domain, or embeddings are given to a filter that reads none.

    Example:
        >>> few = inflab.filter_candidates(queries, corpus, 5)
        >>> dict(few["similarity"].sizes)
        {'query': 3, 'rank': 5}
        >>> ekfac.score(queries, candidates=few)["is_candidate"].sum("train").values
        array([5, 5, 5])
    """
    _check_settings(k, by, on, k1, b)
    for name, corpus, dim in (("queries", queries, "query"), ("train", train, "train")):
        _check_corpus(name, corpus, dim, "" if by == "embedding" else on)
    settings: dict[str, Any] = {"by": by, "k": int(k)}
    if by == "embedding":
        vectors_q = _embeddings("query_embeddings", query_embeddings, queries, "query")
        vectors_t = _embeddings("train_embeddings", train_embeddings, train, "train")
        if vectors_q.shape[1] != vectors_t.shape[1]:
            sizes = f"train_embeddings has {vectors_t.shape[1]} columns, query_embeddings has {vectors_q.shape[1]}"
            raise CorpusError(f"{sizes}; take both from one model")
        blocks = _cosine(vectors_q, vectors_t, progress)
    else:
        if train_embeddings is not None or query_embeddings is not None:
            raise SettingError(f"by={by!r} reads no embeddings; use by='embedding', or leave them out")
        settings |= {"on": on} | ({"k1": float(k1), "b": float(b)} if by == "bm25" else {})
        blocks = _lexical(queries, train, on, k1 if by == "bm25" else 0, b, progress)
    value_qr, chosen_qr = _largest(blocks, queries.sizes["query"], min(int(k), train.sizes["train"]))

    ranked_qr = value_qr > 0
    dims = ("query", "rank")
    gathered = {name: (dims, coord.to_numpy()[chosen_qr]) for name, coord in train_coords(train).items()}
    name = {"bm25": "BM25", "tfidf": "TF-IDF", "embedding": "cosine similarity"}[by]
    of = "embeddings" if by == "embedding" else on
    similarity = variable_attrs(name, "1", f"{name} of query and training sequence by their {of}, largest first")
    is_ranked = variable_attrs("is ranked", "1", "False where fewer sequences than ranks have a positive similarity")
    settings |= {"n_train": train.sizes["train"], "corpus_fingerprint": fingerprint(train)}
    return xr.Dataset(
        {
            "similarity": (dims, np.where(ranked_qr, value_qr, np.float32(np.nan)), similarity),
            "is_ranked": (dims, ranked_qr, is_ranked),
        },
        coords={"rank": np.arange(1, value_qr.shape[1] + 1), **query_coords(queries), **gathered},
        attrs=root_attrs("candidates", **settings),
    )


def _lexical(queries: xr.Dataset, train: xr.Dataset, on: str, k1: float, b: float, progress: bool) -> _Blocks:
    """BM25; TF-IDF when `k1` is 0.

    Yields:
        Blocks of documents, after one reading of all: IDF and the mean length need the whole training set.
    """
    read, n_terms = (_token_reader if on == "tokens" else _word_reader)(queries)
    n_train, width = train.sizes["train"], train.sizes["token"] if on == "tokens" else _WORDS
    counts, lengths = [], []
    holding_u = np.zeros(n_terms, dtype=np.int64)
    for rows in _rows(n_train, max(width, queries.sizes["query"]), "candidates: reading", progress):
        columns, length_d = read(train, rows)
        count_du = _counts(columns, length_d, n_terms)
        holding_u += np.bincount(count_du.indices, minlength=n_terms)
        counts.append(count_du)
        lengths.append(length_d)

    mean = sum(int(length_d.sum()) for length_d in lengths) / n_train or 1.0  # 1 where no document holds a term
    idf_u = np.log((n_train - holding_u + 0.5) / (holding_u + 0.5) + 1)
    weight_uq = _counts(*read(queries, slice(None)), n_terms).toarray().T.astype(np.float64) * idf_u[:, None]
    start = 0
    for count_du, length_d in zip(counts, lengths, strict=True):
        often = count_du.data.astype(np.float64)
        often *= k1 + 1
        often /= count_du.data + np.repeat(k1 * (1 - b + b * length_d / mean), np.diff(count_du.indptr))
        yield start, sparse.csr_array((often, count_du.indices, count_du.indptr), count_du.shape) @ weight_uq
        start += len(length_d)


def _token_reader(queries: xr.Dataset) -> tuple[_Reader, int]:
    """Reads token ids; the columns are the ids of the queries, ascending."""

    def tokens(corpus: xr.Dataset, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        dim = corpus_dim(corpus)
        part = corpus[["token_id", "is_text"]].isel({dim: rows}).transpose(dim, "token")
        is_text = part["is_text"].to_numpy()
        return part["token_id"].to_numpy()[is_text].astype(np.int64), is_text.sum(axis=1)

    used = np.unique(tokens(queries, slice(None))[0])
    low, high = (int(used[0]), int(used[-1])) if used.size else (0, -1)
    # Its first and last entries stand for the ids below and above those of the queries.
    table = np.full(high - low + 3, -1, dtype=np.int32)
    table[used - low + 1] = np.arange(used.size)

    def read(corpus: xr.Dataset, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        ids, length_d = tokens(corpus, rows)
        return table.take(ids - low + 1, mode="clip"), length_d

    return read, used.size


def _word_reader(queries: xr.Dataset) -> tuple[_Reader, int]:
    """Reads words; the columns are the words of the queries, in alphabetical order."""

    def texts(corpus: xr.Dataset, rows: slice) -> list[str]:
        return [text.lower() for text in corpus["text"][rows].to_numpy().tolist()]

    used = sorted({word for text in texts(queries, slice(None)) for word in _WORD.findall(text)})
    column = {word: place for place, word in enumerate(used)}

    def read(corpus: xr.Dataset, rows: slice) -> tuple[np.ndarray, np.ndarray]:
        columns: list[int] = []
        lengths: list[int] = []
        for text in texts(corpus, rows):
            words = _WORD.findall(text)
            lengths.append(len(words))
            columns.extend(map(column.get, words, repeat(-1)))
        return np.array(columns, dtype=np.int32), np.array(lengths, dtype=np.int64)

    return read, len(used)


def _counts(columns: np.ndarray, length_d: np.ndarray, n_terms: int) -> sparse.csr_array:
    """How often each document holds each term of the queries, `(document, term)`, columns ascending in a row."""
    is_known = columns >= 0
    known = np.concatenate([[0], np.cumsum(is_known)])
    starts = known[np.concatenate([[0], np.cumsum(length_d)])]
    ones = np.ones(int(known[-1]), dtype=np.float32)
    found = sparse.csr_array((ones, columns[is_known], starts), shape=(len(length_d), n_terms))
    found.sum_duplicates()
    return found


def _cosine(vectors_q: xr.DataArray, vectors_t: xr.DataArray, progress: bool) -> _Blocks:
    """Yields cosines in float64, so that equal documents tie to the last digit of float32; 0 for a vector of zeros."""
    unit_q = _unit(vectors_q)
    for rows in _rows(len(vectors_t), max(vectors_t.shape[1], len(vectors_q)), "candidates", progress):
        yield rows.start, _unit(vectors_t[rows]) @ unit_q.T


def _unit(vectors: xr.DataArray) -> np.ndarray:
    value = vectors.to_numpy().astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        norm = np.linalg.norm(value, axis=1, keepdims=True)
    broken = np.flatnonzero(~np.isfinite(norm))
    if broken.size:
        dim, label = vectors.dims[0], vectors[vectors.dims[0]].to_numpy()[broken[:1]].tolist()[0]
        raise CorpusError(f"{vectors.name} holds NaN, infinity or numbers too large to square at {dim} {label!r}")
    unit: np.ndarray = np.divide(value, norm, out=np.zeros_like(value), where=norm > 0)
    return unit


def _embeddings(name: str, value: Any, corpus: xr.Dataset, dim: str) -> xr.DataArray:
    """Embeddings as `(dim, d)` in the order of the corpus, not read yet."""
    n = corpus.sizes[dim]
    if value is None:
        raise SettingError(f"by='embedding' needs {name}, an array ({dim}, d) with a vector for each of {n} rows")
    if isinstance(value, np.ndarray):
        value = xr.DataArray(value, dims=(dim, "dimension")) if value.ndim == 2 else xr.DataArray(value)
    if not isinstance(value, xr.DataArray):
        raise SettingError(f"{name} is a {type(value).__name__}; give a numpy array or an xr.DataArray ({dim}, d)")
    if value.ndim != 2 or dim not in value.dims or value.size == 0:
        raise CorpusError(f"{name} has dims {value.dims} and shape {value.shape}; it needs ({dim}, d)")
    if value.dtype.kind not in "fiu":
        raise CorpusError(f"{name} has dtype {value.dtype}; it needs real numbers")
    vectors: xr.DataArray = value.transpose(dim, ...).rename(name)
    ids = corpus[dim].to_numpy()
    if dim not in vectors.coords:
        if len(vectors) != n:
            raise CorpusError(
                f"{name} has {len(vectors)} rows, the corpus has {n}; give one a row of {dim!r}, in order"
            )
        return vectors.assign_coords({dim: ids})
    known = pd.Index(vectors[dim].to_numpy().tolist(), dtype=object)
    if not known.is_unique:
        raise CorpusError(f"{name} has duplicate ids in its coordinate {dim!r}; they must be unique")
    place = known.get_indexer(ids.tolist())
    if (place < 0).any():
        lost = ids[place < 0].tolist()[0]
        raise CorpusError(f"{name} has no vector for {dim} {lost!r}; its coordinate {dim!r} must hold every id")
    in_order = len(known) == n and np.array_equal(place, np.arange(n))
    return vectors if in_order else vectors.isel({dim: place})


def _largest(blocks: _Blocks, n_query: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` largest similarities of each query, ties by position, however the documents are cut into blocks.

    Returns:
        Values float32 and positions of the documents, both `(query, k)`, largest first.
    """
    values = [np.empty(0, dtype=np.float32) for _ in range(n_query)]
    places = [np.empty(0, dtype=np.int64) for _ in range(n_query)]
    for start, block_dq in blocks:
        for row, new_d in enumerate(np.ascontiguousarray(block_dq.T, dtype=np.float32)):
            # Once the list is full, a later document must be larger than its last: ties go to the earlier one.
            full = len(values[row]) == k
            found = np.flatnonzero(new_d > values[row][-1]) if full else np.arange(len(new_d))
            value = np.concatenate([values[row], new_d[found]])
            place = np.concatenate([places[row], found + start])
            if len(value) > k:
                kept = np.flatnonzero(value >= np.partition(value, len(value) - k)[len(value) - k])
                value, place = value[kept], place[kept]
            order = np.argsort(-value, kind="stable")[:k]
            values[row], places[row] = value[order], place[order]
    return np.stack(values), np.stack(places)


def _rows(n: int, width: int, what: str, progress: bool) -> Iterator[slice]:
    """Yields blocks of rows of which `width` numbers each fit in memory together, under a progress bar."""
    size = max(_CELLS // width, 1)
    for start in tqdm(range(0, n, size), desc=what, unit="block", disable=not progress, leave=False):
        yield slice(start, min(start + size, n))


def _check_settings(k: Any, by: Any, on: Any, k1: Any, b: Any) -> None:
    check_count("k", k)
    for name, value, known in (("by", by, ("bm25", "tfidf", "embedding")), ("on", on, ("tokens", "words"))):
        if value not in known:
            raise SettingError(f"{name}={value!r} is not one of {', '.join(map(repr, known))}")
    if not is_finite_number(k1) or k1 < 0:
        raise SettingError(f"k1={k1!r} must be a number, at least 0")
    if not is_finite_number(b) or not 0 <= b <= 1:
        raise SettingError(f"b={b!r} must be a number from 0 to 1")


def _check_corpus(name: str, corpus: Any, dim: str, on: str) -> None:
    if not isinstance(corpus, xr.Dataset):
        raise CorpusError(f"{name} is a {type(corpus).__name__}; make an xr.Dataset with inflab.encode")
    if corpus_dim(corpus) != dim:
        raise CorpusError(f"{name} runs over {corpus_dim(corpus)!r}; make it with dim={dim!r}")
    check_ids(corpus)
    if on == "tokens" and not {"token_id", "is_text"} <= set(corpus):
        raise CorpusError(f"{name} has no token_id and is_text, which on='tokens' reads; use by='embedding'")
    if on == "words":
        if "text" not in corpus.coords:
            raise CorpusError(f"{name} has no coordinate 'text', which on='words' reads; use on='tokens', or assign it")
        texts = zip(corpus[dim].to_numpy().tolist(), corpus["text"].to_numpy().tolist(), strict=True)
        odd = [label for label, text in texts if not isinstance(text, str)]
        if odd:
            raise CorpusError(f"{name}: the text of {dim} {odd[0]!r} is no string; on='words' reads strings only")
