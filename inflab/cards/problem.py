"""The card of a Problem: model, coverage, corpus, from shapes and from what is in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from inflab.cards.page import Card, Fact
from inflab.cards.words import count, number, share_in_words, size, span, visible

__all__ = ["model_parameters", "problem_card"]

_MOST_BYTES = 2**24  # that a display may read: a fingerprint, or lengths of texts, then take about ten milliseconds


def problem_card(problem: Any, covered: Sequence[Any], why_none: str = "") -> Card:
    """What a problem holds.

    Args:
        problem: an `inflab.Problem`.
        covered: the layers that `layers="auto"` takes.
        why_none: in words, where it takes none.

    Returns:
        Its card.
    """
    model, corpus = problem.model, problem.corpus
    facts = [_model(model), _coverage(model, covered, why_none), _corpus(corpus)]
    travelling = [str(name) for name, coord in corpus.coords.items() if coord.dims == ("train",) and name != "train"]
    if travelling:
        facts.append(Fact("coordinates", "", items=travelling, line=2))
    if problem.checkpoints:
        facts.append(_checkpoints(problem.checkpoints))
    prints = _fingerprints(problem)
    if prints:
        facts.append(Fact("fingerprints", prints, line=2, is_code=True))
    return Card("Problem", type(model).__name__, f"learned with {visible(repr(problem.task), 80)}", facts)


def model_parameters(model: Any) -> int:
    """Parameters of a model; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _model(model: Any) -> Fact:
    dtypes: Counter[str] = Counter()
    devices: Counter[str] = Counter()
    for parameter in model.parameters():
        dtypes[str(parameter.dtype).removeprefix("torch.")] += parameter.numel()
        devices[str(parameter.device)] += parameter.numel()
    kinds, places = (" and ".join(name for name, _ in found.most_common()) for found in (dtypes, devices))
    n_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    where = f", {kinds} on {places}, {size(n_bytes)}" if dtypes else ""
    return Fact("model", f"{count(model_parameters(model), 'parameter')}{where}", line=1)


def _coverage(model: Any, covered: Sequence[Any], why_none: str) -> Fact:
    if not covered:
        return Fact("covers", f"nothing: {visible(why_none, 200)}", line=1)
    part, whole = sum(layer.parameters for layer in covered), model_parameters(model)
    told = f'{share_in_words(part, whole, "parameters")} in {count(len(covered), "layer")} with layers="auto"'
    return Fact("covers", told, share=part / whole if whole else 0.0, line=1)


def _corpus(corpus: xr.Dataset) -> Fact:
    n = corpus.sizes["train"]
    is_text = corpus.get("is_text")
    if is_text is None:
        axes = (
            {str(dim): length for dim, length in corpus["input"].sizes.items() if dim != "train"}
            if "input" in corpus
            else {}
        )
        told = f", inputs {' x '.join(map(str, axes.values()))} ({', '.join(map(visible, axes))})" if axes else ""
        return Fact("corpus", count(n, "training example") + told, line=2)
    named = count(n, "training sequence")
    if not is_text.variable._in_memory or is_text.nbytes > _MOST_BYTES:
        return Fact("corpus", f"{named} of up to {count(is_text.sizes['token'], 'token')}", line=2)
    length = is_text.sum("token").to_numpy()
    each = span(int(length.min()), int(length.max()))
    middle = f" (median {number(float(np.median(length)))})" if length.min() < length.max() else ""
    return Fact("corpus", f"{named} of {each} tokens{middle}, {count(int(length.sum()), 'token')} in all", line=2)


def _checkpoints(checkpoints: Sequence[Any]) -> Fact:
    rates = [float(checkpoint.learning_rate) for checkpoint in checkpoints]
    steps = sum(int(checkpoint.steps) for checkpoint in checkpoints)
    told = f"{count(len(checkpoints))} over {count(steps, 'step')}, learning rate {span(min(rates), max(rates))}"
    return Fact("checkpoints", told, line=2)


def _fingerprints(problem: Any) -> str:
    """Those that cost little: the rest is hashed when a fit needs it."""
    found = []
    state = [*problem.model.parameters(), *problem.model.buffers()]
    is_here = all(value.device.type == "cpu" for value in state)
    if is_here and sum(value.numel() * value.element_size() for value in state) <= _MOST_BYTES:
        found.append(f"model {problem.model_fingerprint()}")
    arrays = problem.corpus.variables.values()
    if all(value._in_memory for value in arrays) and problem.corpus.nbytes <= _MOST_BYTES:
        found.append(f"corpus {problem.corpus_fingerprint()}")
    return ", ".join(found)
