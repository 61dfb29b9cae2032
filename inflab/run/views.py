"""The output view of token influence: what each predicted token gains (GB23 eq. 36).

One forward-mode derivative along `p = (G + lambda I)^-1 grad f` gives `d log p(y_t | x_<t)` for every token of a
training sequence; these sum to the pair's influence, because the loss is minus the sum of log p.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
import xarray as xr
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from inflab.capture import frozen
from inflab.corpus import batch
from inflab.device import model_device
from inflab.errors import ModelError, SettingError
from inflab.kronecker import Curvature
from inflab.layer import Layer
from inflab.run.local import Pass
from inflab.run.queries import query_gradients
from inflab.run.tokens import pair_blocks

__all__ = ["output_scores"]


def output_scores(
    run: Pass, curvatures: Mapping[str, Curvature], queries: xr.Dataset, train: xr.Dataset, pairs: np.ndarray
) -> np.ndarray:
    """Influence by predicted training token.

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
    task, model = run.problem.task, run.problem.model
    if not hasattr(task, "token_log_probability"):
        raise SettingError(f"view='output' needs a task with token_log_probability, such as CausalLM; got {task!r}")
    away = [layer.name for layer in run.layers if model.get_submodule(layer.name).weight.is_meta]
    if away:
        raise ModelError(f"view='output' needs the weights of {away[0]!r}, which are offloaded; use view='update'")
    text = train["is_text"].transpose("train", "token").to_numpy()
    values = np.zeros((len(pairs), text.shape[1]))
    modules = dict(model.named_modules())
    device = model_device(model)
    for mine, wanted in pair_blocks(run, pairs):
        ready = query_gradients(run, curvatures, queries, wanted)
        for pair in mine:
            row = int(np.searchsorted(wanted, pairs[pair, 0]))
            tangents = _tangents(run.layers, modules, {n: p.to_dense(slice(row, row + 1))[0] for n, p in ready.items()})
            arrays = batch(train, pairs[pair, 1:])
            one = {n: (t if t.dtype == torch.bool else t.long()).to(device) for n, t in _tensors(arrays).items()}
            # Fused attention kernels have no forward-mode derivative; the plain one has.
            with frozen(model), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
                duals = {n: forward_ad.make_dual(p.detach(), tangents[n]) for n, p in _weights(model, tangents).items()}
                log_p = task.token_log_probability(task.forward(_bound(model, duals), one), one)
                tangent = forward_ad.unpack_dual(log_p).tangent
            columns = np.flatnonzero(text[pairs[pair, 1]])
            values[pair, columns] = tangent[0].detach().cpu().numpy()
    return values


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


def _weights(model: nn.Module, tangents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: model.get_parameter(name) for name in tangents}


def _bound(model: nn.Module, parameters: Mapping[str, Tensor]) -> nn.Module:
    """A module that runs `model` with some parameters replaced, and shows its `forward` signature."""
    shell = nn.Module()

    @functools.wraps(model.forward)
    def forward(*args: Any, **kwargs: Any) -> Any:
        return functional_call(model, dict(parameters), args, kwargs)

    shell.forward = forward
    return shell


def _tangents(
    layers: Sequence[Layer], modules: Mapping[str, nn.Module], matrices: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Each layer's matrix `(o, i)` as directions of its own weight and bias."""
    tangents: dict[str, Tensor] = {}
    for layer in layers:
        module, matrix = modules[layer.name], matrices[layer.name]
        weight: Any = module.weight
        if layer.has_bias:
            tangents[f"{layer.name}.bias"] = matrix[:, -1].to(weight.dtype).contiguous()
            matrix = matrix[:, :-1]
        if layer.kind in ("Conv1D", "Embedding"):  # these store the transpose
            matrix = matrix.T
        tangents[f"{layer.name}.weight"] = matrix.to(weight.dtype).reshape(weight.shape).contiguous()
    return tangents
