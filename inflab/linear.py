"""Linear layers of a pass through `inflab.products.linear`: faster products where there are, and no copies for hooks.

Inside `quick_linear` calls of `F.linear` and `torch.addmm` (transformers' Conv1D) whose weight needs no gradient run
there, forward and backward, for any model; all others run as they would. What `nn.Linear` returns is then no view: the
hook of a covered layer would have to copy that, which takes 2% of a run of scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

from inflab.products import is_plain, linear

__all__ = ["quick_linear"]


@contextmanager
def quick_linear(model: nn.Module) -> Iterator[None]:
    """Linear layers of a pass, on a CPU, through a model whose parameters need no gradient.

    A compiled model is left to its compiler.

    Yields:
        Nothing.
    """
    compiled = ("_orig_mod", "_compiled_call_impl")  # of `torch.compile(model)`, and of `module.compile()`
    is_compiled = any(getattr(module, name, None) is not None for module in model.modules() for name in compiled)
    if is_compiled or not any(is_plain(parameter) for parameter in model.parameters()):
        yield
        return
    with _Quick():
        yield


class _Quick(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if torch.compiler.is_compiling():  # a function that a model had compiled: left to its compiler
            return func(*args, **(kwargs or {}))
        if func is F.linear and not kwargs and len(args) in (2, 3):
            value, weight, bias = (*args, None)[:3]
            if _takes(value, weight, bias):
                return _multiplied(value, weight, bias)
        elif func is torch.addmm and not kwargs and len(args) == 3:
            bias, value, weight = args
            if _takes(value, weight, bias) and bias.ndim == 1:
                return _multiplied(value, weight.T, bias)
        return func(*args, **(kwargs or {}))


def _takes(value: Any, weight: Any, bias: Any) -> bool:
    own = [one for one in (value, weight, bias) if one is not None]
    return (
        all(type(one) in (Tensor, nn.Parameter) for one in own)
        and weight.ndim == 2
        and value.ndim >= 2
        and _is_packed(value)
        and not weight.requires_grad
        and not (bias is not None and bias.requires_grad)
        and is_plain(weight, value.detach(), bias)
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
        and forward_ad._current_level < 0
    )


def _is_packed(value: Tensor) -> bool:
    """Whether the rows of a batch are those of one matrix: of others torch saves another weight for the way back."""
    return all(value.stride(i) == value.stride(i + 1) * value.shape[i + 1] for i in range(value.ndim - 2))


class _Linear(torch.autograd.Function):
    """`x W^T + b`, with a gradient for x alone."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, weight_nk: Tensor, bias_n: Tensor | None) -> Tensor:
        """The product."""
        # As torch's own: inside `backward` no mode is on, and a checkpointed layer that runs again there runs in torch.
        ctx.save_for_backward(weight_nk.T)
        return linear(value, weight_nk, bias_n)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, None]:
        """The gradient of the input: `g W`."""
        (weight_kn,) = ctx.saved_tensors
        return linear(grad, weight_kn), None, None


_multiplied: Callable[..., Tensor] = _Linear.apply
