"""A and S are plain averages over tokens of text: of all uses, of all positions, and never of padding.

Tokens are gathered here by forward hooks and `torch.autograd.grad`, each example alone and without padding; the
patches of a convolution are read off as the derivative of an output in its kernel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inflab import EKFAC, CausalLM, Problem

from .builders import KINDS, of_kind, regression, text_corpus, tiny_lm, token_rows
from .references import alone, assert_close, covariance


def tokens_of(problem: Problem, name: str) -> tuple[Tensor, Tensor]:
    """Every token's activation with its bias column and its gradient, `(t, i)` and `(t, o)`, for the true labels."""
    weight = problem.model.get_submodule(name).weight
    sharing = [m for m in problem.model.modules() if getattr(m, "weight", None) is weight]
    rows: tuple[list[Tensor], list[Tensor]] = ([], [])
    for one in alone(problem.corpus):
        uses, outputs = _watch(sharing, lambda one=one: problem.task.forward(problem.model, one))
        loss_b = problem.task.loss(outputs, one)
        grads = torch.autograd.grad(loss_b[0], [out for *_, out in uses], retain_graph=True)
        for (module, given, out), grad in zip(uses, grads, strict=True):
            a_ti, g_to = _convolved(module, out, grad) if given.ndim == 4 else _plain(module, given, grad)
            rows[0].append(a_ti.detach())
            rows[1].append(g_to.detach())
    return torch.cat(rows[0]), torch.cat(rows[1])


def _watch(
    modules: list[nn.Module], run: Callable[[], Tensor]
) -> tuple[list[tuple[nn.Module, Tensor, Tensor]], Tensor]:
    """Each use of the modules as (module, input, output), and what the run returned."""
    uses: list[tuple[nn.Module, Tensor, Tensor]] = []
    hooks = [m.register_forward_hook(lambda m, given, out: uses.append((m, given[0], out))) for m in modules]
    outputs = run()
    for hook in hooks:
        hook.remove()
    return uses, outputs


def _with_bias(module: nn.Module, a_ti: Tensor) -> Tensor:
    return a_ti if getattr(module, "bias", None) is None else torch.cat([a_ti, torch.ones(len(a_ti), 1).double()], 1)


def _plain(module: Any, given: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    g_to = grad.reshape(-1, grad.shape[-1])
    if not isinstance(module, nn.Embedding):
        return _with_bias(module, given.reshape(-1, given.shape[-1])), g_to
    counts = given.flatten() != (-1 if module.padding_idx is None else module.padding_idx)
    return nn.functional.one_hot(given.flatten(), module.num_embeddings).double()[counts], g_to[counts]


def _convolved(module: Any, out: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """One token for each group and place: the patch, and the gradient of the group's own channels."""
    a_rows, g_rows = [], []
    width = module.out_channels // module.groups
    for group in range(module.groups):
        own = slice(group * width, (group + 1) * width)
        for value, g_o in zip(out[0, own.start].flatten(), grad[0].flatten(1).T, strict=True):
            (patch,) = torch.autograd.grad(value, module.weight, retain_graph=True)
            a_rows.append(patch[own.start].flatten())
            g_rows.append(torch.zeros_like(g_o).index_copy(0, torch.arange(own.start, own.stop), g_o[own]))
    return _with_bias(module, torch.stack(a_rows)), torch.stack(g_rows)


def check(problem: Problem) -> None:
    factors = EKFAC(layers="*", fisher="empirical").fit(problem, batch_size=4, progress=False).factors
    for name, node in factors.children.items():
        a_ti, g_to = tokens_of(problem, name)
        assert node.attrs["tokens"] == len(a_ti)
        assert_close(covariance(node, "activation"), a_ti.T @ a_ti / len(a_ti))
        assert_close(covariance(node, "gradient"), g_to.T @ g_to / len(g_to))


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_layer(kind: str) -> None:
    check(regression(*of_kind(kind)))


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_padding_counts_nowhere(family: str, side: str) -> None:
    rows = token_rows((2, 6, 4, 3, 6), seed=3)
    check(Problem(tiny_lm(family, "sdpa"), CausalLM(), text_corpus(rows, side=side)))
