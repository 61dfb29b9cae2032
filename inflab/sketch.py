"""Gradients in a few bits: which coordinates to keep and how finely, quantising, and products with exact queries.

In the eigenbasis of a curvature, divided by `sqrt(Lambda + lambda)`, influence is a plain dot product of a query's and
a sequence's gradient. A coordinate's mean square over sequences, its energy, is then `e = Lambda / (Lambda + lambda)`,
and the same for queries that look like the training data; so an error of share d in the coordinate adds `d e^2` to the
mean square error of a score. Bits go where a bit takes away most of `sum d e^2`: reverse water-filling (Cover & Thomas
2006, section 10.3.3) over 0, 1, 2, 4 or 8 bits a coordinate, with d that of the best uniform quantiser of a normal
variable (Max 1960, table II).

Measured against exact EK-FAC as `bytes / dense float32 bytes: median Spearman, mean top-10 overlap`, 32 held-out
queries. (A) GPT-2 of 4 blocks, width 128, on Genesis, 0.53 M coordinates, 600 sequences. (B) GPT-NeoX of 4 blocks,
width 256, on Genesis, 2.1 M coordinates, 512 sequences of 128 tokens:

    |                              | A, 1.25%   | A, 2.5%    | B, 1.25%   | B, 2.5%    |
    | largest e, 8 bits            | .860, .74  | .938, .86  | .811, .73  | .893, .81  |
    | largest e, 4 bits            | .937, .86  | .988, .95  | .894, .81  | .961, .90  |
    | largest e, 2 bits            | .978, .93  | .984, .93  | .959, .89  | .992, .96  |
    | largest e, 1 bit             | .949, .91  | .942, .88  | .979, .96  | .979, .95  |
    | water-filling (this module)  | .979, .93  | .993, .97  | .974, .93  | .993, .96  |

At 2% water-filling gives .988, .95 and .989, .96; the best single number of bits .984, .95 and .987, .95. Tried and
left out, each worth a few thousandths at most: measuring the energy instead of taking it from the factors, dividing
each coordinate by its own root mean square, a square-root scale, scales for shorter blocks. A Hadamard rotation before
quantising (2 bits, A, 2.5%: .991 instead of .984) is worth less than water-filling.

Knows tensors and numpy only. Suffixes: n sequence, q query, k coordinate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

__all__ = ["BITS", "DISTORTION", "Queries", "allocate", "decode", "encode", "expected_error", "fidelity", "row_bytes"]

#: Bits that a kept coordinate may take.
BITS = (1, 2, 4, 8)
#: Mean square error of the best uniform quantiser of a standard normal variable; 8 bits span the largest entry of a
#: row instead, taken as six times its root mean square.
DISTORTION = {0: 1.0, 1: 0.36338, 2: 0.11885, 4: 0.011543, 8: (12 / 255) ** 2 / 12}
_STEP = {1: 1.59577, 2: 0.99568, 4: 0.33520}  # of that quantiser

_COLUMNS = 2**14  # bytes of a row unpacked at a time
_CACHE = 2**20  # bytes unpacked at a time: they stay near the core
_HALF = 128  # a query in two bytes: 128 high + low
_LARGEST = 127 * _HALF
_FEWEST = 2**16  # sequences that are enough for a rank correlation


def allocate(energy_k: np.ndarray, budget: int) -> np.ndarray:
    """Bits of each coordinate that minimise `sum d(bits) e^2` within a budget.

    Bits of a coordinate only grow with the budget. Equal energies are served in order.

    Args:
        energy_k: not negative.
        budget: bits in all.

    Returns:
        `(k,)` uint8, each 0 or one of `BITS`.
    """
    order = np.argsort(-energy_k, kind="stable")
    rising_k = np.square(energy_k[order[::-1]], dtype=np.float64)
    gains, costs = _upgrades()
    n = len(energy_k)
    if rising_k[-1] == 0:  # no price tells apart what is worth nothing
        return np.zeros(n, dtype=np.uint8)

    def counts(price: float) -> np.ndarray:
        """Coordinates worth each step to more bits when a bit costs so much: so many from the start of the order."""
        return np.array([n - int(np.searchsorted(rising_k, price / gain)) for gain in gains])

    low, high = 0.0, 2 * max(gains) * float(rising_k[-1])
    for _ in range(100):  # each halves the interval of the price
        middle = (low + high) / 2
        low, high = (low, middle) if int(counts(middle) @ costs) <= budget else (middle, high)
    found = counts(high)
    left = budget - int(found @ costs)
    # At the price itself coordinates of equal energy come all or none: as many of them as there is room for.
    for step, (cost, most) in enumerate(zip(costs, counts(max(low, np.finfo(np.float64).tiny)), strict=True)):
        more = min(left // cost, int(most) - int(found[step]))
        found[step] += more
        left -= more * cost
    bits_k = np.zeros(n, dtype=np.uint8)
    for bits, count in zip(BITS, found, strict=True):
        bits_k[order[:count]] = bits
    return bits_k


def expected_error(energy_k: np.ndarray, bits_k: np.ndarray) -> float:
    """Mean square error of a score as a share of its mean square, `sum d e^2 / sum e^2`, from energies alone."""
    square_k = np.square(energy_k, dtype=np.float64)
    lost = sum(share * float(square_k[bits_k == bits].sum()) for bits, share in DISTORTION.items())
    return lost / max(float(square_k.sum()), np.finfo(np.float64).tiny)


def row_bytes(count: int, bits: int) -> int:
    """Bytes of `count` coordinates in one row."""
    return -(-count * bits // 8)


def encode(value_nk: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Quantise rows.

    Args:
        value_nk: the coordinates of each sequence, floats.
        bits: of each coordinate, one of `BITS`.

    Returns:
        `(n, row_bytes)` uint8, coordinate k in byte `k % row_bytes`, and the step of each row `(n,)` float32. A number
        stands for the middle of its step; what lies outside the range is put at its end (never with 8 bits).
    """
    levels, slots = 2**bits, 8 // bits
    size_n = (
        value_nk.abs().amax(1) * (2 / (levels - 1)) if bits == 8 else value_nk.square().mean(1).sqrt() * _STEP[bits]
    )
    step_n = size_n.float()
    # A row of zeros has no step: any number does, since its level counts for nothing.
    scaled_nk = value_nk.div(step_n.clamp(min=torch.finfo(torch.float32).tiny).unsqueeze(1)).add_(levels / 2)
    level_nk = scaled_nk.floor_().clamp_(0, levels - 1).to(torch.uint8)
    width = row_bytes(value_nk.shape[1], bits)
    level_nk = torch.nn.functional.pad(level_nk, (0, width * slots - value_nk.shape[1]))
    code_nk = level_nk[:, :width].clone()
    for slot in range(1, slots):
        code_nk |= level_nk[:, slot * width : (slot + 1) * width] << (slot * bits)
    return code_nk, step_n


def decode(code_nk: Tensor, bits: int, count: int) -> Tensor:
    """The numbers that codes stand for, in steps of their row: `(n, count)` float32."""
    parts = [level.float() for _, _, level in _unpacked(code_nk, bits)]
    return torch.cat(parts, dim=1)[:, :count] - (_offset(bits) if parts else 0)


@dataclass(frozen=True)
class Queries:
    """Queries ready to be multiplied with codes, as whole numbers in two bytes: the products are exact.

    Attributes:
        bits: of the codes.
        value_kq: `(slots * row_bytes, 2 q)` int8: high and low part of each query, in units of `scale_q`.
        sum_q: sum over coordinates, `(q,)` int64.
        scale_q: `(q,)` float64.
    """

    bits: int
    value_kq: Tensor
    sum_q: Tensor
    scale_q: Tensor

    @classmethod
    def of(cls, value_qk: Tensor, bits: int) -> Queries:
        """From `(q, k)` floats, rounded to 1/16,256 of each query's largest entry."""
        (n, count), width = value_qk.shape, row_bytes(value_qk.shape[1], bits)
        scale_q = torch.linalg.vector_norm(value_qk, torch.inf, dim=1) / _LARGEST
        unit_q = scale_q.clamp(min=torch.finfo(value_qk.dtype).tiny).unsqueeze(1)
        value_kq = torch.zeros(8 // bits * width, 2 * n, dtype=torch.int8)
        sum_q = torch.zeros(n, dtype=torch.int64)
        for start in range(0, count, _COLUMNS):  # some at a time stay near the core
            mine = slice(start, min(start + _COLUMNS, count))
            whole_qk = (value_qk[:, mine] / unit_q).round_().int()
            high_qk = (whole_qk + _HALF // 2) >> 7
            value_kq[mine, :n], value_kq[mine, n:] = high_qk.T, (whole_qk - _HALF * high_qk).T
            sum_q += whole_qk.sum(1)
        return cls(bits, value_kq, sum_q, scale_q.double())

    def multiply(self, code_nk: Tensor) -> Tensor:
        """Products with rows of codes, in steps of each row: `(n, q)` float64."""
        n, width = code_nk.shape
        total_nq = torch.zeros(n, self.value_kq.shape[1], dtype=torch.int64)
        rows = max(1, _CACHE // min(max(width, 1), _COLUMNS))
        for start in range(0, n, rows):
            mine = slice(start, start + rows)
            for slot, column, level_nk in _unpacked(code_nk[mine], self.bits):
                first = slot * width + column
                total_nq[mine] += _product(level_nk, self.value_kq[first : first + level_nk.shape[1]])
        high_nq, low_nq = total_nq.chunk(2, dim=1)
        whole_nq = (_HALF * high_nq + low_nq).double() - _offset(self.bits) * self.sum_q
        return whole_nq * self.scale_q


def fidelity(exact_ns: np.ndarray, sketched_ns: np.ndarray, own_s: np.ndarray) -> tuple[float, float]:
    """How well scores from codes order sequences as the exact ones do, over queries s that are sequences themselves.

    Args:
        exact_ns: exact scores.
        sketched_ns: scores from codes.
        own_s: the row of each query, left out since everything resembles itself; -1 for a query without one.

    Returns:
        Medians over queries of Spearman's correlation and of the share of the ten first that are the same
        (of the first half, where there are fewer than twenty).
    """
    correlations, overlaps = [], []
    for s, own in enumerate(own_s):
        rows = np.flatnonzero(np.arange(len(exact_ns)) != own)
        exact_n, sketched_n = exact_ns[rows, s], sketched_ns[rows, s]
        k = max(1, min(10, len(rows) // 2))
        first = (set(np.argsort(-value, kind="stable")[:k].tolist()) for value in (exact_n, sketched_n))
        overlaps.append(len(set.intersection(*first)) / k)
        some = slice(None, None, -(-len(rows) // _FEWEST))
        correlations.append(_correlation(rankdata(exact_n[some]), rankdata(sketched_n[some])))
    return float(np.median(correlations)), float(np.median(overlaps))


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size else 0.0


def _upgrades() -> tuple[list[float], np.ndarray]:
    """What each step to more bits takes away a bit, falling, and its bits."""
    steps = list(zip((0, *BITS), BITS, strict=False))
    return [(DISTORTION[a] - DISTORTION[b]) / (b - a) for a, b in steps], np.array([b - a for a, b in steps])


def _offset(bits: int) -> float:
    """What a level less its offset is, in steps, is the number it stands for."""
    return (2**bits - 1) / 2 if bits < 8 else -0.5


def _unpacked(code_nk: Tensor, bits: int) -> Iterator[tuple[int, int, Tensor]]:
    """Levels as int8, some columns of one slot at a time, in one buffer; with 8 bits they run from -128.

    Yields:
        The slot, the first column, and `(n, columns)`, to be used before the next.
    """
    width = code_nk.shape[1]
    for slot in range(8 // bits):
        for start in range(0, width, _COLUMNS):
            part = code_nk[:, start : start + _COLUMNS]
            if bits == 8:
                level_nk = part ^ 128
            elif slot == 0:
                level_nk = part & (2**bits - 1)
            else:
                level_nk = part >> (slot * bits)
                if (slot + 1) * bits < 8:
                    level_nk &= 2**bits - 1
            yield slot, start, level_nk.view(torch.int8)


def _product(level_nk: Tensor, value_kq: Tensor) -> Tensor:
    """`level @ value` of int8 matrices, exactly: at most `_COLUMNS` products of 7 and 8 bits fit into 32."""
    if hasattr(torch, "_int_mm"):  # several times as fast as in floats, where the processor has the instructions
        found: Tensor = torch._int_mm(level_nk, value_kq)
        return found
    return (level_nk.double() @ value_kq.double()).long()
