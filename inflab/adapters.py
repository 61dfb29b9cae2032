"""Corpora from what people have: arrays, and map-style torch or Hugging Face datasets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from inflab.columns import check_names
from inflab.corpus import labelled, token_corpus
from inflab.errors import CorpusError
from inflab.schema import variable_attrs

__all__ = ["from_arrays", "from_dataset"]


def from_arrays(
    input: Any,  # noqa: A002 - the field's own word, and the variable's name
    target: Any,
    *,
    dim: str = "train",
    ids: Sequence[Any] | None = None,
    **coords: Any,
) -> xr.Dataset:
    """A tabular or image corpus from arrays.

    Args:
        input: `(n, ...)`: `(n, feature)` or `(n, channel, height, width)`.
        target: `(n,)` class numbers or values, or `(n, output)`.
        dim: "train" or "query".
        ids: n unique ids; 0..n-1 when None.
        **coords: n further values each.

    Returns:
        `input (dim, ...)` and `target (dim, ...)`, every dim with a coordinate.

    Raises:
        CorpusError: no example, unequal lengths, or duplicate ids.
    """
    input_n, target_n = _array(input), _array(target)
    if input_n.ndim == 0 or target_n.ndim == 0:
        raise CorpusError("input and target need one entry an example; give arrays with the example as first axis")
    if len(input_n) == 0:
        raise CorpusError("input is empty; give at least one example")
    if len(input_n) != len(target_n):
        raise CorpusError(f"input has {len(input_n)} examples, target has {len(target_n)}; they must agree")
    names = {2: ["feature"], 4: ["channel", "height", "width"]}.get(
        input_n.ndim, [f"input_{axis}" for axis in range(1, input_n.ndim)]
    )
    extra = ["output"] if target_n.ndim == 2 else [f"target_{axis}" for axis in range(1, target_n.ndim)]
    sizes = dict(zip(names + extra, input_n.shape[1:] + target_n.shape[1:], strict=True))
    variables = {
        "input": ((dim, *names), input_n, variable_attrs("input", "1", "what the model reads")),
        "target": ((dim, *extra), target_n, variable_attrs("target", "1", "what the loss compares with")),
    }
    axes = {name: np.arange(size) for name, size in sizes.items()}
    check_names(coords, ["input", "target", *axes], allowed=dim)
    return labelled(variables, dim, ids, coords, axes)


def from_dataset(dataset: Any, *, dim: str = "train", tokenizer: Any = None) -> xr.Dataset:
    """A corpus from a map-style torch or Hugging Face dataset, read once into memory.

    Args:
        dataset: `len()` and `[i]`; items are `(input, target)` pairs, or dicts with `input` and `target`, or dicts
            with `input_ids` and optionally `attention_mask` and `labels` (-100: not a target). Further scalar
            entries of a dict become coordinates.
        dim: "train" or "query".
        tokenizer: for readable tokens; without it tokens are shown as their ids.

    Returns:
        A corpus as `inflab.encode` or `from_arrays` make it.

    Raises:
        CorpusError: when items have none of these forms.
    """
    if not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise CorpusError(
            f"corpus of type {type(dataset).__name__} is neither an xarray Dataset nor a map-style dataset with "
            "len() and [i]; use inflab.encode or inflab.adapters.from_arrays"
        )
    if len(dataset) == 0:
        raise CorpusError("the dataset is empty; give at least one example")
    try:
        first = dataset[0]
    except (KeyError, TypeError) as error:
        raise CorpusError(
            f"corpus of type {type(dataset).__name__} has no item [0] ({error!r}); give a map-style dataset, or use "
            "inflab.encode or inflab.adapters.from_arrays"
        ) from error
    items = [first, *(dataset[i] for i in range(1, len(dataset)))]
    if isinstance(first, Mapping):
        _check_keys(items)
    if isinstance(first, Mapping) and "input_ids" in first:
        return _from_token_items(items, dim, tokenizer)
    if isinstance(first, Mapping) and {"input", "target"} <= set(first):
        coords = {
            k: [item[k] for item in items] for k in first if k not in ("input", "target") and np.ndim(first[k]) == 0
        }
        pairs = [(item["input"], item["target"]) for item in items]
    elif isinstance(first, (tuple, list)) and len(first) == 2:
        coords, pairs = {}, [(item[0], item[1]) for item in items]
    else:
        raise CorpusError(
            f"dataset items of type {type(first).__name__} are not understood; for texts use inflab.encode(texts, "
            "tokenizer), else (input, target) pairs, dicts with 'input' and 'target', or dicts with 'input_ids'"
        )
    inputs, targets = (_stack([_array(pair[side]) for pair in pairs], name) for side, name in enumerate(_PAIR))
    return from_arrays(inputs, targets, dim=dim, **coords)


_PAIR = ("input", "target")


def _check_keys(items: Sequence[Mapping[str, Any]]) -> None:
    for i, item in enumerate(items):
        differing = set(items[0]) ^ set(item)
        if differing:
            raise CorpusError(f"items 0 and {i} differ in their keys {sorted(map(str, differing))}; give all the same")


def _array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):  # a torch tensor; torch is not imported for it
        value = value.detach().cpu()
        value = value.float() if str(value.dtype) == "torch.bfloat16" else value  # numpy knows no bfloat16
    return np.asarray(value)


def _stack(values: Sequence[np.ndarray], name: str) -> np.ndarray:
    for i, value in enumerate(values):
        if value.shape != values[0].shape:
            shapes = f"{name} of item 0 has shape {values[0].shape}, of item {i} {value.shape}"
            raise CorpusError(f"{shapes}; give one shape")
    return np.stack(values)


def _from_token_items(items: list[Mapping[str, Any]], dim: str, tokenizer: Any) -> xr.Dataset:
    width = max(len(item["input_ids"]) for item in items)
    shape = (len(items), width)
    token_id, is_text, is_target = np.zeros(shape, np.int32), np.zeros(shape, bool), np.zeros(shape, bool)
    for i, item in enumerate(items):
        row = _array(item["input_ids"])
        n = len(row)
        for name in ("input_ids", "attention_mask", "labels"):
            sizes: tuple[int, ...] = np.shape(item[name]) if name in item else (n,)
            if sizes != (n,):
                raise CorpusError(f"{name} of item {i} has shape {sizes}; give one number a token, ({n},)")
        token_id[i, :n] = row
        is_text[i, :n] = _array(item["attention_mask"]).astype(bool) if "attention_mask" in item else True
        labels = _array(item["labels"]) if "labels" in item else row
        if "labels" in item and not np.array_equal(labels[labels != -100], row[labels != -100]):
            raise CorpusError(f"labels of item {i} differ from its input_ids; use the same ids, or -100 for no target")
        is_target[i, :n] = is_text[i, :n] & (labels != -100)
        is_target[i, np.flatnonzero(is_text[i])[:1]] = False
    known = {"input_ids", "attention_mask", "labels", "token_type_ids"}
    coords = {k: [item[k] for item in items] for k in items[0] if k not in known and np.ndim(items[0][k]) == 0}
    check_names(coords, ["input", "target"], allowed=dim)
    text = coords.pop("text", None)
    if text is None and tokenizer is not None:
        text = [tokenizer.decode(token_id[i][is_text[i]]) for i in range(len(items))]
    return token_corpus(token_id, is_text, is_target, text, dim, None, coords, tokenizer)
