"""What the tests expect, made by `torch.autograd.grad` alone, and what inflab found, as dense matrices.

No reference calls the code under test: it is a loop over examples and outputs, one derivative at a time. A layer's
matrix is `gradient x activation`, the bias in the last column; over its entries, row by row, the Kronecker product
of a curvature is `kron(S, A)`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from inflab import Influence, Problem, kronecker
from inflab.corpus import batch as corpus_batch
from inflab.layer import Layer, select_layers
from inflab.layout import Tokens
from inflab.run.local import Pass

EXACT = 1e-9


def relative_error(found: Any, expected: Any) -> float:
    """Largest difference over the largest expected number, which must not be zero."""
    found, expected = (np.asarray(value, dtype=np.float64) for value in (found, expected))
    assert found.shape == expected.shape, f"shape {found.shape} is not {expected.shape}"
    size = np.abs(expected).max()
    assert np.isfinite(size) and size > 0, "an expectation of zeros tests nothing"
    return float(np.abs(found - expected).max() / size)


def assert_close(found: Any, expected: Any, rtol: float = EXACT) -> None:
    error = relative_error(found, expected)
    assert error <= rtol, f"relative error {error:.2e} exceeds {rtol:.0e}"


# --- expected: autograd, one derivative at a time -----------------------------------------------------------------


def alone(corpus: xr.Dataset) -> Iterator[dict[str, Tensor]]:
    """Each example as a batch of one, which has no padding."""
    for i in range(corpus.sizes["train" if "train" in corpus.dims else "query"]):
        tensors = {name: torch.from_numpy(value.copy()) for name, value in corpus_batch(corpus, np.array([i])).items()}
        yield {name: t.long() if t.dtype == torch.int32 else t for name, t in tensors.items()}


def matrix_of(module: nn.Module, weight: Tensor, bias: Tensor | None) -> Tensor:
    """The gradient of a weight and a bias as the layer's matrix."""
    weight = weight.to_dense() if weight.is_sparse else weight
    matrix = weight.T if type(module).__name__ in ("Conv1D", "Embedding") else weight.flatten(1)
    return matrix if bias is None else torch.cat([matrix, bias[:, None]], dim=1)


def gradient_matrices(model: nn.Module, names: Sequence[str], value: Tensor) -> dict[str, Tensor]:
    """Derivative of one number in the weights of each named module, `(o, i)`; zero where it does not reach."""
    modules = {name: model.get_submodule(name) for name in names}
    wanted = [p for m in modules.values() for p in (m.weight, getattr(m, "bias", None)) if p is not None]
    grads = iter(torch.autograd.grad(value, wanted, retain_graph=True, materialize_grads=True))
    found = {}
    for name, module in modules.items():
        weight, bias = next(grads), None if getattr(module, "bias", None) is None else next(grads)
        found[name] = matrix_of(module, weight, bias)
    return found


def expected_gradients(
    problem: Problem, names: Sequence[str], quantity: str = "loss", corpus: xr.Dataset | None = None
) -> dict[str, Tensor]:
    """Gradient of each example's loss or measurement, `(b, o, i)` a layer."""
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    for one in alone(problem.corpus if corpus is None else corpus):
        outputs = problem.task.forward(problem.model, one)
        value_b = (problem.task.loss if quantity == "loss" else problem.task.measure)(outputs, one)
        for name, matrix in gradient_matrices(problem.model, names, value_b[0]).items():
            rows[name].append(matrix)
    return {name: torch.stack(matrices) for name, matrices in rows.items()}


def gauss_newton(
    problem: Problem, names: Sequence[str], hessian: Callable[[Tensor], Tensor], corpus: xr.Dataset | None = None
) -> dict[str, Tensor]:
    """`G_l`: mean over examples of the sum over positions of `J^T H J`, `(o i, o i)` a layer.

    Args:
        problem: its outputs are `(1, ..., P)`; of a text, positions whose next token is a target count.
        names: the modules.
        hessian: of the loss in one position's outputs, `(P,) -> (P, P)`.
        corpus: the examples, when not the problem's.
    """
    found: dict[str, Tensor] = {}
    for jacobians, output_p, share in _positions(problem, names, corpus):
        for name, jacobian in jacobians.items():
            block = jacobian.T @ hessian(output_p) @ jacobian * share
            found[name] = found[name] + block if name in found else block
    return found


def joint_gauss_newton(
    problem: Problem, names: Sequence[str], hessian: Callable[[Tensor], Tensor], corpus: xr.Dataset | None = None
) -> Tensor:
    """The same over all layers together, `(p, p)`: the layers' entries one after another."""
    found: Any = 0
    for jacobians, output_p, share in _positions(problem, names, corpus):
        jacobian = torch.cat(list(jacobians.values()), dim=1)
        found = found + jacobian.T @ hessian(output_p) @ jacobian * share
    return found


def _positions(
    problem: Problem, names: Sequence[str], corpus: xr.Dataset | None
) -> Iterator[tuple[dict[str, Tensor], Tensor, float]]:
    """Of each position that counts: the Jacobian of its outputs in each layer `(P, o i)`, the outputs, and 1 / n."""
    examples = list(alone(problem.corpus if corpus is None else corpus))
    for one in examples:
        outputs = problem.task.forward(problem.model, one)
        counted_tp = outputs[0, :-1][one["is_target"][0, 1:]] if "is_target" in one else outputs
        for output_p in counted_tp.reshape(-1, outputs.shape[-1]):
            rows: dict[str, list[Tensor]] = {name: [] for name in names}
            for value in output_p:
                for name, matrix in gradient_matrices(problem.model, names, value).items():
                    rows[name].append(matrix.flatten())
            yield {name: torch.stack(row) for name, row in rows.items()}, output_p.detach(), 1 / len(examples)


def squared(output_p: Tensor) -> Tensor:
    """Hessian of |y - f|^2 / 2 in f."""
    return torch.eye(len(output_p), dtype=output_p.dtype)


def softmax(output_p: Tensor) -> Tensor:
    """Hessian of -log softmax(f), `diag p - p p^T`: also the second moment of its gradient under its own labels."""
    p = output_p.softmax(-1)
    return torch.diag(p) - torch.outer(p, p)


# --- found: inflab's own passes and factors -----------------------------------------------------------------------


def batches(
    problem: Problem, layers: Any = "*", quantity: Any = "loss", corpus: xr.Dataset | None = None, **run: Any
) -> dict[str, list[tuple[np.ndarray, Tokens]]]:
    """Layer name -> positions of the examples and their `Tokens`, one pair a batch."""
    chosen = select_layers(problem.model, layers)
    found: dict[str, list[tuple[np.ndarray, Tokens]]] = {layer.name: [] for layer in chosen}

    def keep(index: np.ndarray, layer: Layer, tokens: Tokens) -> None:
        found[layer.name].append((index, tokens))

    passes = Pass(problem, chosen, progress=False, **run)
    passes.over(problem.corpus if corpus is None else corpus, quantity, keep, what="test")
    return found


def captured(problem: Problem, *args: Any, **run: Any) -> dict[str, list[Tokens]]:
    """Layer name -> its `Tokens`, one a batch."""
    return {name: [tokens for _, tokens in parts] for name, parts in batches(problem, *args, **run).items()}


def found_gradients(problem: Problem, layers: Any = "*", *args: Any, **run: Any) -> dict[str, Tensor]:
    """Layer name -> gradient of each example, `(b, o, i)`, in the corpus' order."""
    found = {}
    for name, parts in batches(problem, layers, *args, **run).items():
        grads = [kronecker.example_gradients(t.activation, t.gradient, t.width) for _, t in parts]
        found[name] = torch.cat(grads)[np.argsort(np.concatenate([index for index, _ in parts]))]
    return found


def check_gradients(problem: Problem, layers: Any = "*", batch_size: int = 3) -> None:
    """Each example's gradient of the loss, by inflab's pass in batches and by autograd one by one."""
    found = found_gradients(problem, layers, batch_size=batch_size)
    for name, expected_boi in expected_gradients(problem, list(found)).items():
        assert_close(found[name], expected_boi)


def tensor(node: Any, name: str) -> Tensor:
    return torch.from_numpy(node[name].to_numpy().copy())


def basis(node: Any, side: str) -> Tensor:
    """`Q_A` ("activation") or `Q_S` ("gradient"); the identity where none is stored."""
    name = f"{side}_eigenvectors"
    return tensor(node, name) if name in node else torch.eye(node["eigenvalues"].sizes[f"{side}_eigen"]).double()


def dense_basis(node: Any) -> Tensor:
    """`Q = kron(Q_S, Q_A)`."""
    return torch.kron(basis(node, "gradient"), basis(node, "activation"))


def covariance(node: Any, side: str) -> Tensor:
    """A ("activation") or S ("gradient"), put together again from its eigendecomposition."""
    q = basis(node, side)
    return q * tensor(node, f"{side}_eigenvalues") @ q.T


def dense_curvature(influence: Influence, layer: str) -> Tensor:
    """`Q diag(Lambda) Q^T`, `(o i, o i)`, without damping."""
    node = influence.factors[layer]
    q = dense_basis(node)
    return q * tensor(node, "eigenvalues").flatten() @ q.T


def scores(influence: Influence, queries: xr.Dataset, **settings: Any) -> np.ndarray:
    return influence.score(queries, progress=False, **settings)["influence"].to_numpy()
