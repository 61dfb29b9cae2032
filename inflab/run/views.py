"""Views of token influence that differentiate the model once more: by output and by input token (GB23 eqs. 36 to 38).

Output: one forward-mode derivative along `p = (G + lambda I)^-1 grad f` gives `d log p(y_t | x_<t)` for every token of
a training sequence; these sum to the pair's influence, because the loss is minus the sum of log p. Input: the influence
is `-<p, grad L>`; with the embedding of token t multiplied by `1 + eps_t`, a second reverse pass gives its slope in
every eps_t at once, `<embedding_t, d I / d embedding_t>`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
import xarray as xr
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from inflab.capture import frozen
from inflab.corpus import batch
from inflab.device import model_device, to_tensor
from inflab.errors import ModelError, SettingError
from inflab.functional import bound, directions
from inflab.kronecker import Curvature
from inflab.run.local import Pass
from inflab.run.queries import query_gradients
from inflab.run.tokens import pair_blocks
from inflab.tasks import Batch

__all__ = ["input_scores", "output_scores"]

#: From weights by name, the direction p in them, and a batch, to one number a token, `(example, token)`.
_Places = Callable[[dict[str, Tensor], dict[str, Tensor], Batch], Tensor]


def output_scores(
    run: Pass, curvatures: Mapping[str, Curvature], queries: xr.Dataset, train: xr.Dataset, pairs: np.ndarray
) -> np.ndarray:
    """Influence by predicted training token (GB23 eq. 36).

    Args:
        run: the pass.
        curvatures: of each layer.
        queries: the query batch.
        train: the training corpus.
        pairs: `(pair, 2)`: positions of query and training sequence.

    Returns:
        `(pair, token)`, tokens at their columns in `train`.

    Raises:
        ModelError: when weights of a covered layer are offloaded.
        SettingError: when the task has no log-probability for each token.
    """
    task: Any = run.problem.task
    if not hasattr(task, "token_log_probability"):
        raise SettingError(f"view='output' needs a task with token_log_probability, such as CausalLM; got {task!r}")

    def gains(weights: dict[str, Tensor], p: dict[str, Tensor], one: Batch) -> Tensor:
        with forward_ad.dual_level():
            duals = {name: forward_ad.make_dual(weight, p[name]) for name, weight in weights.items()}
            log_p = task.token_log_probability(task.forward(bound(run.problem.model, duals), one), one)
            gain_bt: Tensor = forward_ad.unpack_dual(log_p).tangent
        return gain_bt

    return _scores(run, curvatures, queries, train, pairs, "output", gains)


def input_scores(
    run: Pass, curvatures: Mapping[str, Curvature], queries: xr.Dataset, train: xr.Dataset, pairs: np.ndarray
) -> np.ndarray:
    """What a relative change of each token's embedding changes in the influence (GB23 eqs. 37, 38).

    Arguments as for `output_scores`.

    Returns:
        `(pair, token)`: the derivative of the pair's influence in `eps_t`, tokens at their columns in `train`. Exactly
        0 for what no target token comes after, such as the last token.

    Raises:
        ModelError: when weights of a covered layer are offloaded, or the token embeddings reach no loss.
        SettingError: when the model says not where its token embeddings are.
    """
    task, embedding = run.problem.task, _embedding(run.problem.model)
    dtype = torch.float64 if run.itemsize() == 8 else torch.float32

    def slopes(weights: dict[str, Tensor], p: dict[str, Tensor], one: Batch) -> Tensor:
        eps_bt = torch.zeros(one["token_id"].shape, dtype=dtype, device=one["token_id"].device, requires_grad=True)
        inputs = [weight.requires_grad_() for weight in weights.values()]
        with torch.enable_grad(), _scaled(embedding, eps_bt):
            loss_b = task.loss(task.forward(bound(run.problem.model, weights), one), one)
            grads = torch.autograd.grad(loss_b.sum(), inputs, create_graph=True, materialize_grads=True)
            parts = [(grad * p[name]).sum(dtype=dtype) for name, grad in zip(weights, grads, strict=True)]
            along = torch.stack([part.to(eps_bt.device) for part in parts]).sum()
        # An example's loss knows no other's embeddings: sums over examples keep their slopes apart.
        (slope_bt,) = torch.autograd.grad(along, eps_bt, allow_unused=True)
        if slope_bt is None:
            raise ModelError(
                f"view='input' needs the outputs of the {type(embedding).__name__} that get_input_embeddings() returns "
                "to reach the loss; use another view"
            )
        return -slope_bt

    return _scores(run, curvatures, queries, train, pairs, "input", slopes)


def _scores(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    queries: xr.Dataset,
    train: xr.Dataset,
    pairs: np.ndarray,
    view: str,
    places: _Places,
) -> np.ndarray:
    """One number a token of each pair: the sequences that one query meets go through the model together."""
    model = run.problem.model
    away = [layer.name for layer in run.layers if model.get_submodule(layer.name).weight.is_meta]
    if away:
        raise ModelError(f"view={view!r} needs the weights of {away[0]!r}, which are offloaded; use view='update'")
    text = train["is_text"].transpose("train", "token").to_numpy()
    values = np.zeros((len(pairs), text.shape[1]), dtype=np.float64 if run.itemsize() == 8 else np.float32)
    modules, device = dict(model.named_modules()), model_device(model)
    floats = next(p.dtype for p in model.parameters() if p.is_floating_point())
    for mine, wanted in pair_blocks(run, pairs):
        ready = query_gradients(run, curvatures, queries, wanted)
        for row, query in enumerate(wanted):
            matrices = {name: held.to_dense(slice(row, row + 1))[0] for name, held in ready.items()}
            p = directions(run.layers, modules, matrices)
            here = mine[pairs[mine, 0] == query]
            for index in run._batches(train, np.unique(pairs[here, 1])):
                with torch.inference_mode(False):
                    one = {name: to_tensor(value, device, floats) for name, value in batch(train, index).items()}
                    weights = {name: model.get_parameter(name).detach() for name in p}
                    # Fused attention kernels have one reverse mode and no more; the plain one has all derivatives.
                    with frozen(model), sdpa_kernel(SDPBackend.MATH):
                        found_bt = places(weights, p, one).detach().cpu().numpy()
                for position, found_t in zip(index, found_bt, strict=True):
                    columns = np.flatnonzero(text[position])  # texts begin at the first column of a batch
                    values[np.ix_(here[pairs[here, 1] == position], columns)] = found_t[: len(columns)]
    return values


def _embedding(model: nn.Module) -> nn.Module:
    """The module that looks token embeddings up.

    Returns:
        The module.

    Raises:
        SettingError: when the model does not say.
    """
    find = getattr(model, "get_input_embeddings", None)
    found = find() if callable(find) else None
    if not isinstance(found, nn.Module):
        raise SettingError(
            f"view='input' scales token embeddings, and {type(model).__name__} says not where they are; give it a "
            "get_input_embeddings() that returns the module, as models of transformers have, or use view='update'"
        )
    return found


@contextmanager
def _scaled(embedding: nn.Module, eps_bt: Tensor) -> Iterator[None]:
    """Multiply the embedding of each token by `1 + eps` inside."""

    def scale(module: nn.Module, given: Any, output: Any) -> Any:
        if not isinstance(output, Tensor) or output.shape[:2] != eps_bt.shape:
            return output
        return output * (1 + eps_bt).to(output.dtype).unsqueeze(-1)

    handle = embedding.register_forward_hook(scale)
    try:
        yield
    finally:
        handle.remove()
