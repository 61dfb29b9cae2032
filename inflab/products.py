"""Matrix products as fast as the machine gives them: aligned rows, half of a symmetric product, no needless copies.

Plain torch on any device. Measured on a 2-core AMD EPYC (Zen 4) in float32, in GFLOP/s: MKL, which `torch.mm` calls,
multiplies 4,096 x 1,024 by 1,024 x 1,024 at 170, rows of 1,025 numbers at 130 when packed tightly and at 185 when they
start at multiples of 64 bytes; oneDNN, which torch brings as well, takes all of these at 205 to 215, and 256 rows of
263,168 numbers by 32 others at 190 instead of 115. On an Intel Xeon (Emerald Rapids) MKL is the faster of the two by a
tenth, but for those long rows, which oneDNN takes at 130 instead of 90. The upper blocks of `a^T a` alone take 0.65 of
the time of the whole. A second thread pool (OpenBLAS through numpy) is fast by itself, but each change between the two
pools costs more than it saves: they wait for each other by spinning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "FAR",
    "NEAR",
    "Scratch",
    "add_gram",
    "add_squares",
    "aligned",
    "as_right_side",
    "chunks",
    "gram_share",
    "is_finite",
    "is_plain",
    "linear",
    "matmul",
    "mirror",
    "product",
    "right_side",
    "side_by_side",
    "uses_onednn",
    "tfloat32",
]

Item = TypeVar("Item")
Result = TypeVar("Result")

_ALIGNED = 64  # bytes: a cache line, and the width of the widest vector registers
_LARGE = 2**17  # numbers in a matrix
_LONG = 2**17  # numbers that one entry of a product sums over
_GRAM_WIDTH = 160  # columns of a block of a symmetric product: narrower ones lose more than they leave out
NEAR = 2**23  # bytes of per-example products at a time that stay in a cache until they are used up
FAR = 2**26  # bytes that are enough for a product with many queries to be worth its reading them
_EVEN = 16  # numbers in a row: tensor cores load several at a time, and are slow where the last are too few
_GPU = 2**29  # bytes of them at a time on a GPU, which only many examples fill


def aligned(like: Tensor, *shape: int) -> Tensor:
    """An uninitialised tensor of a shape whose rows start at multiples of 64 bytes; dtype and device of `like`."""
    step = _ALIGNED // like.element_size()
    width = -(-shape[-1] // step) * step
    return like.new_empty(*shape[:-1], width)[..., : shape[-1]]


def right_side(like: Tensor, k: int, n: int) -> Tensor:
    """An uninitialised `(k, n)` matrix in the layout in which `product` takes its right side without a copy."""
    if like.device.type == "cpu" and like.dtype == torch.float32 and k * n >= _LARGE and _has_faster_onednn():
        return like.new_empty(n, k).T
    return aligned(like, k, n)


def as_right_side(value_kn: Tensor) -> Tensor:
    """The same matrix in the layout of `right_side`; on a GPU itself."""
    if value_kn.device.type != "cpu":
        return value_kn
    return right_side(value_kn, *value_kn.shape).copy_(value_kn)


def is_plain(weight: Tensor, *others: Tensor | None) -> bool:
    """Whether a product with a matrix is one for `linear`: plain float32 on a CPU, no gradient asked for, not small.

    Args:
        weight: the matrix that stays, of at least 131,072 numbers: oneDNN makes code for each shape of a product and
            keeps it, a hundred kilobytes each, which small products do not bring in again.
        others: what else takes part.

    Returns:
        True or False.
    """
    return weight.numel() >= _LARGE and all(
        value is None
        or (
            value.device.type == "cpu"
            and value.layout == torch.strided
            and value.dtype == torch.float32
            and not (value.requires_grad and torch.is_grad_enabled())
        )
        for value in (weight, *others)
    )


def uses_onednn(weight_nk: Tensor, *others: Tensor | None) -> bool:
    """Whether a product `a @ weight^T` runs in oneDNN: where `is_plain` and that is faster."""
    is_on: Any = torch.backends.mkldnn.enabled
    is_long = weight_nk.shape[-1] >= _LONG
    return is_plain(weight_nk, *others) and bool(is_on) and (_has_faster_onednn() or (is_long and _has_onednn()))


@cache
def _has_faster_onednn() -> bool:
    """Whether oneDNN multiplies faster than the BLAS of `torch.mm`: seen on AMD cores with AVX-512, whose BLAS is MKL.

    Elsewhere it is not known, or not so, and `torch.mm` it is. A rule, not a race: the same machine gives the same
    digits.

    Returns:
        True or False.
    """
    try:
        return _has_onednn() and "AuthenticAMD" in Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False


@cache
def _has_onednn() -> bool:
    """Whether there is oneDNN beside MKL on cores with AVX-512, where its long products are the faster ones."""
    backends: Any = torch.backends
    is_there = backends.mkldnn.is_available() and backends.mkl.is_available()
    return is_there and backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def linear(a: Tensor, weight_nk: Tensor, bias_n: Tensor | None = None) -> Tensor:
    """`a @ weight^T + bias` for `a (..., k)`; without gradients.

    Args:
        a: `(..., k)`.
        weight_nk: `(n, k)`; quickest when its rows, or its columns, follow one another without gaps.
        bias_n: `(n,)`, or None.

    Returns:
        `(..., n)`; where `is_plain`, no view: what is hooked may be changed in place later, without a copy before.
    """
    if not is_plain(weight_nk, a, bias_n) or a.numel() == 0 or a.ndim == 1:
        return F.linear(a, weight_nk, bias_n)
    rows = a.flatten(0, -2)
    if not uses_onednn(weight_nk):
        return F.linear(rows, weight_nk, bias_n).resize_(*a.shape[:-1], len(weight_nk))
    # A weight with gaps between its rows would run in a reference loop, a thousand times slower; `a` may have gaps.
    if not (weight_nk.is_contiguous() or weight_nk.T.is_contiguous()):
        weight_nk = weight_nk.contiguous()
    if rows.stride(1) != 1 or rows.stride(0) < rows.shape[1]:
        rows = rows.contiguous()
    found: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight_nk, bias_n, "none", [], "")
    return found.resize_(*a.shape[:-1], len(weight_nk))


@contextmanager
def tfloat32() -> Iterator[None]:
    """Float32 matrix products of a GPU on its tensor cores, with 10 bits of mantissa; afterwards as it was."""
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    try:
        matmul.fp32_precision = "tf32"
        yield
    finally:
        matmul.fp32_precision = before


def matmul(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """`a @ b`; inside `tfloat32` of rows filled up with zeros to a width that tensor cores take.

    Returns:
        The product; `out` where it is given.
    """
    if not _on_cores(a):
        return torch.matmul(a, b, out=out)
    found = (_padded(a) @ _padded(F.pad(b, (0, 0, 0, -a.shape[-1] % _EVEN))))[..., : b.shape[-1]]
    return found if out is None else out.copy_(found)


def product(a: Tensor, b_kn: Tensor) -> Tensor:
    """`a @ b` for `a (..., k)`, `(..., n)`; quickest for `b` in the layout of `right_side`."""
    if uses_onednn(b_kn.T, a):
        return linear(a, b_kn.T)
    out = aligned(a, *a.shape[:-1], b_kn.shape[1])
    matmul(a.reshape(-1, a.shape[-1]), b_kn, out=out.view(-1, b_kn.shape[1]))
    return out


def add_gram(total_ii: Tensor, value_ti: Tensor) -> None:
    """Add `value^T value` to the upper block triangle of `total`, which `mirror` completes."""
    width, on_cores = len(total_ii), _on_cores(value_ti)
    value_ti = _padded(value_ti) if on_cores else value_ti
    step = -(-width // (4 if value_ti.is_cuda else _gram_blocks(width)))
    step += -step % _EVEN
    for start in range(0, width, step):
        stop = min(start + step, width)
        place, left, right = total_ii[start:stop, start:], value_ti[:, start:stop].T, value_ti[:, start:]
        if on_cores:
            place += (left @ right)[: len(place), : place.shape[1]]
        else:
            place.addmm_(left, right)


def gram_share(width: int) -> float:
    """The share of the operations of `value^T value` that `add_gram` does on a CPU, of rows of a width."""
    blocks = _gram_blocks(width)
    return (blocks + 1) / (2 * blocks)


def _gram_blocks(width: int) -> int:
    return min(max(width // _GRAM_WIDTH, 4), 8)


def _on_cores(value: Tensor) -> bool:
    """Whether a product runs on the tensor cores of a GPU, which are slow with rows of some widths."""
    return value.is_cuda and value.dtype == torch.float32 and torch.backends.cuda.matmul.fp32_precision == "tf32"


def _padded(value: Tensor) -> Tensor:
    """Rows of a width that tensor cores take, filled up with zeros."""
    return F.pad(value, (0, -value.shape[-1] % _EVEN))


def mirror(total_ii: Tensor) -> Tensor:
    """The symmetric matrix whose upper triangle is given."""
    return total_ii.triu() + total_ii.triu(1).T


class Scratch:
    """Memory that products of one pass are written to again and again: fresh pages cost a third of such a product."""

    def __init__(self) -> None:
        self._held: Tensor | None = None

    def take(self, like: Tensor, *shape: int) -> Tensor:
        """An uninitialised tensor, good until the next is taken; dtype and device of `like`."""
        size = math.prod(shape)
        held = self._held
        if held is None or len(held) < size or held.dtype != like.dtype or held.device != like.device:
            self._held = held = None  # the old one is free before the new one is there
            self._held = held = like.new_empty(size)
        return held[:size].view(shape)


def add_squares(total: Tensor, value_b: Tensor) -> None:
    """Add the sum over the first axis of `value ** 2` to `total`."""
    if value_b.device.type == "cpu":  # one example at a time stays in the cache, without a second tensor
        for value in value_b:
            total.addcmul_(value, value)
    else:
        total += torch.linalg.vector_norm(value_b, dim=0).square_()  # one reading, no second tensor


def side_by_side(
    function: Callable[[Item], Result], items: Iterable[Item], device: torch.device, most: int
) -> Iterator[Result]:
    """Compute a function of each item, on a CPU one item a core, each with one thread, if `most` is that many.

    A symmetric eigendecomposition gains little from a second thread, and loses much where cores are shared. On a GPU
    they follow one another: of 3,073 rows in float64, several streams at a time brought 4% on an H200.

    Yields:
        Results, in order.
    """
    threads = torch.get_num_threads()
    if threads == 1 or device.type != "cpu" or most < threads:
        yield from map(function, items)
        return
    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield from pool.map(function, items)
    finally:
        torch.set_num_threads(threads)


def is_finite(value: Tensor) -> Tensor | bool:
    """Whether every number is finite; on a GPU a tensor that is not waited for."""
    if value.device.type != "cpu" or not value.is_floating_point():
        return torch.isfinite(value).all()
    # A sum is finite only if every number is, and takes a fifth of the time; it may overflow, hence the second look.
    return math.isfinite(float(value.sum())) or bool(torch.isfinite(value).all())


def chunks(examples: int, bytes_each: int, size: int = FAR, device: torch.device | None = None) -> Iterator[slice]:
    """Consecutive slices of a batch whose per-example products take about `size` bytes together, more on a GPU.

    Yields:
        At least one example each.
    """
    size = _GPU if device is not None and device.type == "cuda" else size
    step = max(1, size // max(bytes_each, 1))
    for start in range(0, examples, step):
        yield slice(start, min(start + step, examples))
