"""Corpora as labelled arrays: text to token ids, batches, fingerprints.

A corpus is an `xr.Dataset` over `train` or `query`. Text corpora hold `token_id`, `is_text` (not padding) and
`is_target` (the token's log-probability counts) over `(train, token)`; tabular and image corpora hold `input`
and `target`. Imports no torch: a batch leaves here as numpy arrays.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from inflab.columns import check_names, check_near, some, strings
from inflab.errors import CorpusError
from inflab.pieces import readable_pieces
from inflab.schema import root_attrs, variable_attrs

__all__ = [
    "batch",
    "check_ids",
    "corpus_dim",
    "encode",
    "fingerprint",
    "labelled",
    "token_corpus",
]


def encode(
    texts: Sequence[str],
    tokenizer: Any,
    *,
    completions: Sequence[str] | None = None,
    dim: str = "train",
    max_length: int | None = None,
    ids: Sequence[Any] | None = None,
    padding_side: Literal["left", "right"] = "right",
    **coords: Any,
) -> xr.Dataset:
    """Text to a corpus of token ids.

    Args:
        texts: n strings. With `completions` they are prompts: context only.
        tokenizer: a `transformers` tokenizer (a fast one when `completions` are given).
        completions: n strings that follow the prompts, most often with a space in front; then only their tokens are
            targets, and without them the whole text is. Prompt and completion are tokenised together, as the model
            met them in training; a token that straddles the border counts as completion.
        dim: "train" or "query".
        max_length: longest text in tokens. A longer training text is cut and named in a warning and in the
            coordinate `is_truncated`; a longer text with a completion is an error. None cuts nothing.
        ids: n unique ids (int or str) for `dim`; 0..n-1 when None.
        padding_side: where the padding of shorter texts goes.
        **coords: n further values each (source, language, kind, ...), which travel into every result.

    Returns:
        `token_id` int32, `is_text` and `is_target` bool, all `(dim, token)`, `vocabulary_text (vocabulary)` with a
        readable piece for each token id that occurs, and the coordinates `text` (and `prompt`, `completion`).

    Raises:
        CorpusError: no texts, an empty text, unequal lengths, duplicate ids, or a completion without a token.

    Example:
        >>> asked = inflab.encode(["The first President of Astrobia was"], tokenizer, completions=[" Ann"], dim="query")
        >>> asked["token_id"].dims, bool(asked["is_target"].all())  # the prompt is no target
        (('query', 'token'), False)
    """
    texts = strings("texts", texts)
    if not texts:
        raise CorpusError("texts is empty; give at least one string")
    if dim not in ("train", "query"):
        raise CorpusError(f"dim={dim!r} is not 'train' or 'query'")
    if padding_side not in ("left", "right"):
        raise CorpusError(f"padding_side={padding_side!r} is not 'left' or 'right'")
    if max_length is not None and max_length < 1:
        raise CorpusError(f"max_length={max_length} must be at least 1, or None to cut nothing")
    check_near(coords)
    check_names(coords, ["text", "is_truncated"])
    if not callable(tokenizer):
        raise CorpusError(
            f"tokenizer is a {type(tokenizer).__name__}, which cannot be called on texts; give a tokenizer of "
            "transformers: AutoTokenizer.from_pretrained(name), or PreTrainedTokenizerFast(tokenizer_object=...)"
        )
    whole, starts = _join(texts, completions)
    try:
        # verbose=False: the tokenizer's own length warning speaks of a limit that `Problem` checks by name.
        encoding = tokenizer(whole, return_offsets_mapping=completions is not None, verbose=False)
    except NotImplementedError as error:
        raise CorpusError(
            f"tokenizer of type {type(tokenizer).__name__} cannot say where a token lies in the text ({error}), which "
            "completions need; use the fast tokenizer of the model (transformers.AutoTokenizer)"
        ) from error
    rows: list[list[int]] = encoding["input_ids"]
    labels = list(range(len(rows))) if ids is None else list(ids)
    empty = [labels[i] for i, row in enumerate(rows) if not row]
    if empty:
        raise CorpusError(f"texts: no token in {dim} {some(empty)}; remove these texts")
    is_truncated = np.array([max_length is not None and len(row) > max_length for row in rows])
    if is_truncated.any():
        cut = [labels[i] for i in np.flatnonzero(is_truncated)]
        if completions is not None:
            raise CorpusError(f"max_length={max_length}: the completion would be cut in {dim} {some(cut)}; shorten it")
        warnings.warn(
            f"max_length={max_length}: texts cut in {dim} {some(cut)} (coordinate is_truncated)",
            stacklevel=2,
        )
        rows = [row[:max_length] for row in rows]

    counts = [np.ones(len(row), dtype=bool) for row in rows]
    if completions is not None:
        ends = [np.array([end for _, end in offsets]) for offsets in encoding["offset_mapping"]]
        counts = [end > start for end, start in zip(ends, starts, strict=True)]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    token_id, is_text, is_target = _pad(rows, counts, pad, padding_side)
    if completions is not None:
        none = [labels[i] for i in np.flatnonzero(~is_target.any(axis=1))]
        if none:
            raise CorpusError(
                f"completions: no token left to predict in {dim} {some(none)}; give prompt and completion"
            )
        coords = {"prompt": texts, "completion": list(completions), **coords}
    if is_truncated.any():
        coords = {"is_truncated": is_truncated, **coords}
    return token_corpus(token_id, is_text, is_target, whole, dim, labels, coords, tokenizer)


def batch(corpus: xr.Dataset, index: np.ndarray) -> dict[str, np.ndarray]:
    """Rows `index` of a corpus as numpy arrays; texts begin at the first column, and the longest one fills the row.

    Whichever side a corpus is padded on, the model sees padding on the right: on the left, eager attention gives NaN
    to rows that attend to nothing, and their values reach the text.

    Returns:
        Variable name -> array, first axis the example.
    """
    dim = corpus_dim(corpus)
    rows = (
        corpus
        .drop_vars("vocabulary_text", errors="ignore")
        .isel({dim: index})
        .transpose(dim, "token", ..., missing_dims="ignore")
    )
    arrays = {str(name): variable.to_numpy() for name, variable in rows.data_vars.items() if dim in variable.dims}
    if "is_text" not in arrays:
        return arrays
    is_text = arrays["is_text"]
    order = np.argsort(~is_text, axis=1, kind="stable")[:, : is_text.sum(axis=1).max()]
    return {
        name: np.take_along_axis(array, order, axis=1) if rows[name].dims == (dim, "token") else array
        for name, array in arrays.items()
    }


def corpus_dim(corpus: xr.Dataset) -> str:
    """The dim a corpus runs over.

    Returns:
        "train" or "query".

    Raises:
        CorpusError: when it has neither, or both.
    """
    found = [dim for dim in ("train", "query") if dim in corpus.dims]
    if len(found) != 1:
        raise CorpusError(f"corpus has dims {tuple(corpus.dims)}; exactly one of 'train' and 'query' is needed")
    return found[0]


def check_ids(corpus: xr.Dataset) -> None:
    """Refuse a corpus without rows, without ids, or with duplicate ids.

    Raises:
        CorpusError: naming the ids.
    """
    dim = corpus_dim(corpus)
    if corpus.sizes[dim] == 0:
        raise CorpusError(f"corpus is empty: {dim} has length 0; give at least one example")
    if dim not in corpus.coords:
        raise CorpusError(f"corpus has no coordinate {dim!r}; assign unique ids, for instance range(n)")
    doubled = [label for label, count in Counter(corpus[dim].to_numpy().tolist()).items() if count > 1]
    if doubled:
        raise CorpusError(f"duplicate ids in {dim}: {some(doubled)}; ids must be unique")


def fingerprint(corpus: xr.Dataset) -> str:
    """SHA-256 over the ids and the numbers a model sees (not over texts and other coordinates), 16 hex digits."""
    digest = hashlib.sha256()
    dim = corpus_dim(corpus)
    digest.update("\0".join(map(str, corpus[dim].to_numpy())).encode())
    for name in sorted(map(str, corpus.data_vars)):
        if name != "vocabulary_text":
            value = np.ascontiguousarray(corpus[name].transpose(dim, ..., missing_dims="ignore").to_numpy())
            digest.update(f"{name} {value.dtype.str} {value.shape}".encode())
            digest.update(value.tobytes())
    return digest.hexdigest()[:16]


def _join(texts: list[str], completions: Sequence[str] | None) -> tuple[list[str], list[int]]:
    if completions is None:
        return texts, []
    completions = strings("completions", completions)
    if len(completions) != len(texts):
        raise CorpusError(f"completions has {len(completions)} entries, texts has {len(texts)}; they must agree")
    empty = [i for i, completion in enumerate(completions) if not completion]
    if empty:
        raise CorpusError(f"completions: empty at positions {some(empty)}; a query needs a completion to measure")
    return [p + c for p, c in zip(texts, completions, strict=True)], [len(p) for p in texts]


def token_corpus(
    token_id: np.ndarray,
    is_text: np.ndarray,
    is_target: np.ndarray,
    text: Sequence[str] | None,
    dim: str,
    ids: Sequence[Any] | None,
    coords: Mapping[str, Any],
    tokenizer: Any,
) -> xr.Dataset:
    """A text corpus from `(n, token)` arrays of ids and masks; pieces are `[id]` without a tokenizer."""
    used = np.unique(token_id[is_text]).astype(np.int32)
    pieces = [f"[{i}]" for i in used] if tokenizer is None else readable_pieces(tokenizer, used)
    variables = {
        "token_id": (
            (dim, "token"),
            token_id,
            variable_attrs("token id", "1", "index into the tokenizer's vocabulary"),
        ),
        "is_text": (
            (dim, "token"),
            is_text,
            variable_attrs("is text", "1", "True where a token is text, not padding"),
        ),
        "is_target": (
            (dim, "token"),
            is_target,
            variable_attrs("is target", "1", "True where the token's log-probability counts"),
        ),
        "vocabulary_text": (
            ("vocabulary",),
            np.array(pieces, dtype=object),
            variable_attrs("token text", "1", "readable piece of each token id that occurs"),
        ),
    }
    if text is not None:
        coords = {"text": list(text), **coords}
    return labelled(variables, dim, ids, coords, {"token": np.arange(token_id.shape[1]), "vocabulary": used})


def labelled(
    variables: Mapping[str, Any],
    dim: str,
    ids: Sequence[Any] | None,
    coords: Mapping[str, Any],
    axes: Mapping[str, Any],
) -> xr.Dataset:
    """A corpus from variables over `dim`, values for each example, and the values of the other dims."""
    n = next(iter(variables.values()))[1].shape[0]
    columns = {dim: range(n) if ids is None else ids, **coords}
    arrays: dict[str, Any] = dict(axes)
    for name, value in columns.items():
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise CorpusError(f"{name}={value!r} is one value; give a list of {n}, one an example")
        array = value if isinstance(value, np.ndarray) else np.array(list(value))
        if array.dtype.kind in "US":
            array = array.astype(object)  # fixed-width unicode has no zarr v3 specification
        if array.shape[:1] != (n,):
            raise CorpusError(f"{name} has {len(array)} values, the corpus has {n} examples; they must agree")
        if array.ndim != 1:
            raise CorpusError(f"{name} has shape {array.shape}; a coordinate is one value an example")
        arrays[name] = (dim, array)
    corpus = xr.Dataset(dict(variables), coords=arrays, attrs=root_attrs("corpus"))
    check_ids(corpus)
    return corpus


def _pad(
    rows: list[list[int]], counts: list[np.ndarray], pad: int, side: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, `is_text` and `is_target` of rows of unequal length, as `(row, token)` arrays."""
    width = max(map(len, rows))
    token_id = np.full((len(rows), width), pad, dtype=np.int32)
    is_text, is_target = np.zeros((2, len(rows), width), dtype=bool)
    for i, (row, counted) in enumerate(zip(rows, counts, strict=True)):
        first = width - len(row) if side == "left" else 0
        place = slice(first, first + len(row))
        token_id[i, place] = row
        is_text[i, place] = True
        is_target[i, place] = counted
        is_target[i, first] = False  # nothing comes before the first token, so nothing predicts it
    return token_id, is_text, is_target
