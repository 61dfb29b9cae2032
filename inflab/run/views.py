"""The output view of token influence: what each predicted token gains (GB23 eq. 36).

One forward-mode derivative along `p = (G + lambda I)^-1 grad f` gives `d log p(y_t | x_<t)` for every token of a
training sequence; these sum to the pair's influence, because the loss is minus the sum of log p.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.autograd.forward_ad as forward_ad
import xarray as xr
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from inflab.capture import frozen
from inflab.corpus import batch
from inflab.device import model_device
from inflab.errors import ModelError, SettingError
from inflab.functional import bound, directions
from inflab.kronecker import Curvature
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
            query = {name: held.to_dense(slice(row, row + 1))[0] for name, held in ready.items()}
            tangents = directions(run.layers, modules, query)
            arrays = batch(train, pairs[pair, 1:])
            one = {n: (t if t.dtype == torch.bool else t.long()).to(device) for n, t in _tensors(arrays).items()}
            # Fused attention kernels have no forward-mode derivative; the plain one has.
            with frozen(model), sdpa_kernel(SDPBackend.MATH), forward_ad.dual_level():
                duals = {n: forward_ad.make_dual(model.get_parameter(n).detach(), t) for n, t in tangents.items()}
                log_p = task.token_log_probability(task.forward(bound(model, duals), one), one)
                tangent = forward_ad.unpack_dual(log_p).tangent
            columns = np.flatnonzero(text[pairs[pair, 1]])
            values[pair, columns] = tangent[0].detach().cpu().numpy()
    return values


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
