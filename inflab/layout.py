"""From a module's input and the gradient at its output to tokens of `(activation, gradient)`.

Positions that are not text are set to zero by selection (they may hold NaN), in the bias column too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inflab.errors import LayerError
from inflab.layer import Layer
from inflab.products import aligned

__all__ = ["Tokens", "lay_out"]


@dataclass(frozen=True)
class Tokens:
    """The tokens of one layer in one batch; a layer used several times has the tokens of all uses in a row.

    Attributes:
        activation: `(example, token, activation)`, bias column last; or int64 `(example, token)`: a one-hot row by
            its index (Embedding).
        gradient: `(example, token, gradient)`: derivative of the summed objective at the layer's output.
        is_text: `(example, token)` bool; both others are zero (index 0, gradient zero) where it is False.
        width: length of an activation row.
        memo: what was computed from the activation, by the id of the basis; layers that read one input share it.
    """

    activation: Tensor
    gradient: Tensor
    is_text: Tensor
    width: int
    memo: dict[int, Tensor] = field(default_factory=dict, repr=False, compare=False)


def lay_out(
    layer: Layer,
    module: nn.Module,
    uses: list[tuple[Tensor, Tensor]],
    is_text: Tensor | None,
    n: int,
    *,
    is_whole: bool = False,
    twin: Tokens | None = None,
) -> Tokens:
    """Lay out all uses of one layer in one pass.

    Args:
        layer: what the layer is.
        module: the module itself.
        uses: (input, gradient at the output) of each use in the forward pass.
        is_text: `(example, token)` bool, or None where every position counts.
        n: number of examples.
        is_whole: whether every position is text, so that nothing has to be selected.
        twin: the tokens of another layer that read the same input, with the same bias column: its activation is taken.

    Returns:
        Its `Tokens`, in float32, or float64 when the pass ran in float64.

    Raises:
        LayerError: when the leading axis is not the batch, or the positions are not the text's.
    """
    parts = [_one_use(layer, module, a, g, is_text, n, is_whole, twin) for a, g in uses]
    if len(parts) == 1:
        return parts[0]
    return Tokens(
        activation=torch.cat([part.activation for part in parts], dim=1),
        gradient=torch.cat([part.gradient for part in parts], dim=1),
        is_text=torch.cat([part.is_text for part in parts], dim=1),
        width=layer.width,
    )


def _one_use(
    layer: Layer,
    module: Any,
    a: Tensor,
    g: Tensor,
    is_text: Tensor | None,
    n: int,
    is_whole: bool,
    twin: Tokens | None,
) -> Tokens:
    if g.shape[0] != n or a.shape[0] != n:
        raise LayerError(
            f"{layer.name!r} ran on leading axes {a.shape[0]} (input) and {g.shape[0]} (output), the batch has {n} "
            "examples: its gradient cannot be split by example; leave it out with layers="
        )
    g = g if g.dtype == torch.float64 else g.float()
    if layer.kind == "Conv2d":
        return _conv2d(layer, module, a.to(g.dtype), g)
    g_bto = g.reshape(n, -1, layer.outputs)
    is_text_bt = _positions(layer, is_text, g_bto)
    if layer.kind == "Embedding":
        a_bt = a.reshape(n, -1).long()
        if module.padding_idx is not None:
            is_text_bt = is_text_bt & (a_bt != module.padding_idx)
        return Tokens(
            a_bt.masked_fill(~is_text_bt, 0),
            g_bto.masked_fill(~is_text_bt.unsqueeze(-1), 0),
            is_text_bt,
            layer.width,
        )
    is_whole = is_whole or is_text is None
    if not is_whole:
        g_bto = g_bto.masked_fill(~is_text_bt.unsqueeze(-1), 0)
    if twin is not None:
        return Tokens(twin.activation, g_bto, is_text_bt, layer.width, twin.memo)
    a_bti = a.reshape(n, -1, layer.inputs).to(g.dtype)
    if layer.has_bias:
        a_bti = _with_bias(a_bti)
    if not is_whole:
        a_bti = a_bti.masked_fill(~is_text_bt.unsqueeze(-1), 0)
    return Tokens(a_bti, g_bto, is_text_bt, layer.width)


def _with_bias(a: Tensor) -> Tensor:
    """`a_bar = (a; 1)`, in aligned rows."""
    width = a.shape[-1]
    a_bar = aligned(a, *a.shape[:-1], width + 1)
    a_bar[..., :width] = a
    a_bar[..., width] = 1
    return a_bar


def _positions(layer: Layer, is_text: Tensor | None, g_bto: Tensor) -> Tensor:
    n, length = g_bto.shape[:2]
    if is_text is None or length == 1:
        return torch.ones(n, length, dtype=torch.bool, device=g_bto.device)
    if is_text.shape[1] != length:
        raise LayerError(
            f"{layer.name!r} has {length} positions an example, the text has {is_text.shape[1]} tokens: the padding "
            "mask cannot be applied; leave it out with layers="
        )
    return is_text.to(g_bto.device)


def _conv2d(layer: Layer, module: nn.Conv2d, a: Tensor, g: Tensor) -> Tokens:
    """The tokens of a convolution: unfolded patches (Grosse & Martens 2016).

    With groups, each output position gives one token per group: its patch from the group's own channels, its
    gradient zero outside the group's own outputs. Their products sum to the gradient of the whole weight.

    Returns:
        `Tokens` over `groups x positions`.
    """
    n, groups = a.shape[0], module.groups
    pad = _conv2d_padding(module)
    if any(pad):
        mode = "constant" if module.padding_mode == "zeros" else module.padding_mode
        a = F.pad(a, pad, mode=mode)
    patches = F.unfold(a, module.kernel_size, dilation=module.dilation, stride=module.stride)  # (n, C*kh*kw, position)
    a_bgpi = patches.reshape(n, groups, layer.inputs, -1).transpose(2, 3)
    if layer.has_bias:
        a_bgpi = _with_bias(a_bgpi)
    g_bpo = g.flatten(2).transpose(1, 2)
    own_go = torch.eye(groups, dtype=g.dtype, device=g.device).repeat_interleave(layer.outputs // groups, dim=1)
    g_bgpo = g_bpo.unsqueeze(1) * own_go[:, None, :] if groups > 1 else g_bpo.unsqueeze(1)
    a_bti, g_bto = a_bgpi.flatten(1, 2), g_bgpo.flatten(1, 2)
    return Tokens(a_bti, g_bto, torch.ones(a_bti.shape[:2], dtype=torch.bool, device=g.device), layer.width)


def _conv2d_padding(module: nn.Conv2d) -> list[int]:
    """Padding as `F.pad` takes it: left, right, top, bottom."""
    if module.padding == "same":
        totals = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        return [side for total in reversed(totals) for side in (total // 2, total - total // 2)]
    if isinstance(module.padding, str):  # "valid"
        return [0, 0, 0, 0]
    return [side for size in reversed(module.padding) for side in (size, size)]
