"""Power-law tails of positive numbers: Clauset, Shalizi & Newman 2009, "Power-law distributions in empirical data".

A density `p(x) ~ x^-alpha` from `xmin` on is an exponential one in `y = ln x`, of rate `alpha - 1`; all of it is done
there. `alpha` is its maximum likelihood (their eq. 3.1), `xmin` has the least Kolmogorov-Smirnov distance (section 3.3;
the empirical distribution is taken from the left, as in the authors' own code), `p` comes from a semiparametric
bootstrap in which every resample is fitted again, `xmin` included (section 4.1), and other laws are compared by
Vuong's likelihood ratio (appendix C). Knows numpy arrays only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import erfc, erfcx, log_ndtr

__all__ = ["Comparison", "Fit", "compare", "fit", "goodness"]

_CELLS = 2**21  # numbers of resamples in memory at a time


@dataclass(frozen=True)
class Fit:
    """A fitted tail.

    Attributes:
        alpha: exponent of the density.
        error: its standard error, `(alpha - 1) / sqrt(n_tail)` (eq. 3.2).
        xmin: where the tail begins.
        n_tail: values in it.
        distance: Kolmogorov-Smirnov distance between tail and law.
    """

    alpha: float
    error: float
    xmin: float
    n_tail: int
    distance: float


@dataclass(frozen=True)
class Comparison:
    """Vuong's test of the power law against another one, over the fitted tail.

    Attributes:
        ratio: log-likelihood ratio divided by its standard deviation; positive favours the power law.
        p: that a ratio as far from 0 comes from laws that fit equally well.
    """

    ratio: float
    p: float


def _counts(n: int, least: int, thresholds: int | None) -> np.ndarray:
    """Tail sizes that are tried, ascending: all from `least` to `n`, or so many, log-spaced."""
    if thresholds is None or n - least < thresholds:
        return np.arange(least, n + 1)
    return np.unique(np.geomspace(least, n, thresholds).round().astype(np.int64))


def fit(value_n: np.ndarray, least: int = 10, thresholds: int | None = None) -> Fit | None:
    """Fit the tail of positive values.

    Args:
        value_n: positive, descending, at least `least` of them.
        least: values that a tail must have.
        thresholds: how many `xmin` are tried; None tries every value.

    Returns:
        The fit; None when no tail varies.
    """
    log_n = np.log(value_n)
    tried = _counts(len(log_n), least, thresholds)
    # A tail holds all values that equal its smallest: equal ones stay together.
    tried = np.unique(np.searchsorted(-log_n, -log_n[tried - 1], side="right"))
    distance, count, rate = (found[0] for found in _search(log_n[None], tried))
    if not np.isfinite(distance):
        return None
    xmin = float(value_n[count - 1])
    return Fit(1 + float(rate), float(rate / np.sqrt(count)), xmin, int(count), float(distance))


def goodness(
    value_n: np.ndarray, found: Fit, resamples: int, rng: np.random.Generator, least: int = 10,
    thresholds: int | None = None,
) -> float:  # fmt: skip
    """Share of resamples of the fitted law that lie farther from their own fit than the values from theirs.

    Args:
        value_n: positive, descending.
        found: their fit.
        resamples: how many.
        rng: source of randomness.
        least: as of the fit.
        thresholds: as of the fit.

    Returns:
        `p`; a power law is ruled out at .1 or less, by the authors' rule.
    """
    log_n = np.log(value_n)
    n, body = len(log_n), log_n[found.n_tail :]
    tried = _counts(n, least, thresholds)
    farther, at_once = 0, max(1, _CELLS // n)
    for start in range(0, resamples, at_once):
        shape = (min(at_once, resamples - start), n)
        drawn_bn = np.log(found.xmin) + rng.standard_exponential(shape) / (found.alpha - 1)
        if len(body):
            is_body = rng.random(shape) >= found.n_tail / n
            drawn_bn[is_body] = body[rng.integers(len(body), size=int(is_body.sum()))]
        drawn_bn.sort(axis=1)
        distance_b, _, _ = _search(drawn_bn[:, ::-1], tried)
        farther += int((distance_b >= found.distance).sum())
    return farther / resamples


def compare(value_n: np.ndarray, found: Fit, law: str) -> Comparison:
    """Hold the fitted power law against another law from the same `xmin` on.

    Args:
        value_n: positive, descending.
        found: their fit.
        law: "exponential" or "lognormal".

    Returns:
        The test. The power law is a limit of lognormal tails: where no lognormal fits better than it, the ratio is 0.
    """
    tail = value_n[: found.n_tail]
    excess = np.log(tail / found.xmin)
    power = np.log((found.alpha - 1) / tail) - (found.alpha - 1) * excess
    other = _exponential(tail, found.xmin) if law == "exponential" else _lognormal(tail, excess)
    if other is None:
        return Comparison(0.0, 1.0)
    gap = power - other
    spread = float(np.sqrt(len(gap)) * gap.std())
    if spread <= 1e-9:  # the same law
        return Comparison(0.0, 1.0)
    ratio = float(gap.sum()) / spread
    return Comparison(ratio, float(erfc(abs(ratio) / np.sqrt(2))))


def _search(log_bn: np.ndarray, tried: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The best tail of each row of descending logarithms.

    Args:
        log_bn: one sample a row.
        tried: tail sizes.

    Returns:
        Least distance (inf where no tail varies), the size of that tail, its rate `alpha - 1`; each `(b,)`.
    """
    n_row = len(log_bn)
    best_b, count_b, rate_b = np.full(n_row, np.inf), np.zeros(n_row, np.int64), np.full(n_row, np.nan)
    sum_bn = np.cumsum(log_bn, axis=1)
    for count in tried:
        excess_b = sum_bn[:, count - 1] - count * log_bn[:, count - 1]
        varies = excess_b > 1e-12 * count
        rate = np.divide(count, excess_b, out=np.full(n_row, np.nan), where=varies)
        cdf_bk = (log_bn[:, count - 1 : count] - log_bn[:, :count]) * rate[:, None]
        np.exp(cdf_bk, out=cdf_bk)  # 1 - CDF of the law
        cdf_bk -= np.arange(1, count + 1) / count  # minus 1 - that of the sample, from the left
        distance = np.maximum(cdf_bk.max(axis=1), -cdf_bk.min(axis=1))
        better = distance < best_b  # never where it is NaN
        best_b, count_b = np.where(better, distance, best_b), np.where(better, count, count_b)
        rate_b = np.where(better, rate, rate_b)
    return best_b, count_b, rate_b


def _exponential(tail: np.ndarray, xmin: float) -> np.ndarray:
    beyond = tail - xmin
    rate = 1 / beyond.mean()
    found: np.ndarray = np.log(rate) - rate * beyond
    return found


def _lognormal(tail: np.ndarray, excess: np.ndarray) -> np.ndarray | None:
    """Log-likelihoods of the lognormal cut off at xmin: a normal in `ln(x / xmin)`, cut off at 0.

    Its mean and variance are `s (h - a)` and `s^2 (1 + a h - h^2)`, a the cut in standard deviations s and h the
    hazard there; the squared coefficient of variation rises with a, from 0 to 1, so that the maximum likelihood is one
    root. At 1 the law is exponential in ln x: the power law itself.

    Returns:
        One for each value; None where no lognormal is as likely as the power law.
    """
    mean = float(excess.mean())
    variation = float(excess.var()) / mean**2

    def gap(cut: float) -> float:
        hazard = _hazard(cut)
        return (1 + cut * hazard - hazard**2) / (hazard - cut) ** 2 - variation

    low, high = -1e3, 100.0
    if gap(low) >= 0 or gap(high) <= 0:
        return None
    cut = float(brentq(gap, low, high, xtol=1e-10))
    spread = mean / (_hazard(cut) - cut)
    z = excess / spread + cut
    found: np.ndarray = -np.log(spread * tail) - z**2 / 2 - np.log(2 * np.pi) / 2 - log_ndtr(-cut)
    return found


def _hazard(cut: float) -> float:
    """Of the standard normal: density over what lies beyond."""
    with np.errstate(over="ignore"):  # erfcx of a far negative number is infinite, the hazard 0
        return float(np.sqrt(2 / np.pi) / erfcx(cut / np.sqrt(2)))
