"""What the machine can do, measured, and what a fit must do, counted: the share of the one in the other.

A multiply-add counts as 2 FLOPs. Counted is one pass over the N training sequences of T tokens, which is enough for
covariances and Lambda together, with P products in the weights of the part that is run:

    forward      2 P N T, and 4 d T / 2 for each token and block: attention's two products, causal
    backward     2 P' N T, and 8 d T / 2: no weight gradients, and nothing before the first covered layer
    A and S      N T (I^2 + O^2) a layer: symmetric, so half of the products
    Lambda       the cheapest of four orders: 2 N T I O to form gradients, and each side rotated by tokens
                 (2 N T n^2) or in the gradient (2 N n I O)
    eigenbases   9 n^3 each: reduction to tridiagonal form, its eigenvectors, back-transformation

Norms, softmax, GELU, losses and the embedding are left out: they are bound by memory.
"""

from __future__ import annotations

import itertools
import statistics
import time

from benchmarks.setting import Size

__all__ = ["fit_flops", "gemm_rates"]

_SHAPE = (4096, 1024, 1024)


def gemm_rates(device: str, repeats: int = 7) -> dict[str, float]:
    """Measured FLOP/s of one large float32 product.

    Args:
        device: where.
        repeats: of which the median is taken, after one that is not counted.

    Returns:
        `torch_flops`, on a CPU also `numpy_flops` and `oneDNN_flops`: three libraries of products.
    """
    import torch

    m, k, n = _SHAPE
    a_mk, b_kn = torch.randn(m, k, device=device), torch.randn(k, n, device=device)
    products = {"torch_flops": lambda: a_mk @ b_kn}
    if device == "cpu":
        a, b = a_mk.numpy(), b_kn.numpy()
        products["numpy_flops"] = lambda: a @ b
        b_nk = b_kn.T.contiguous()
        products["oneDNN_flops"] = lambda: torch.ops.mkldnn._linear_pointwise(a_mk, b_nk, None, "none", [], "")
    found = {}
    for name, product in products.items():
        seconds = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            product()
            if device != "cpu":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        found[name] = 2.0 * m * k * n / statistics.median(seconds[1:])
    return found


def fit_flops(size: Size) -> dict[str, float]:
    """FLOPs that a fit of EK-FAC on the MLP layers must do, by part.

    Args:
        size: of the model and the corpus.

    Returns:
        Part -> FLOPs; "total" is their sum.
    """
    d, blocks, n, t = size.hidden, size.layers, size.train, size.length
    tokens = n * t
    head = size.vocabulary * d
    # Weights of a block: 4 d^2 of attention, 8 d^2 of the MLP. Backwards, the first block needs its second matrix only.
    weights, weights_back = 12 * d * d * blocks + head, 12 * d * d * (blocks - 1) + 4 * d * d + head
    parts = {
        "forward": tokens * (2.0 * weights + 2 * d * t * blocks),
        "backward": tokens * (2.0 * weights_back + 4 * d * t * (blocks - 1)),
        "covariances": 0.0,
        "Lambda": 0.0,
        "eigenbases": 0.0,
    }
    for inputs, outputs in [(d + 1, 4 * d), (4 * d + 1, d)] * blocks:
        parts["covariances"] += tokens * (inputs**2 + outputs**2)
        gradient = inputs * outputs
        parts["Lambda"] += 2.0 * tokens * gradient + min(
            sum(2.0 * (tokens * side**2 if early else n * side * gradient) for side, early in order)
            for order in itertools.product(*([(side, True), (side, False)] for side in (inputs, outputs)))
        )
        parts["eigenbases"] += 9.0 * (inputs**3 + outputs**3)
    return parts | {"total": sum(parts.values())}
