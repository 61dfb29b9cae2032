"""Spectra of fitted layers, thinned so that a chart can draw them: the corrected eigenvalues Lambda, largest first.

Directions with an eigenvalue far above the damping lambda are divided by their curvature, those far below by lambda
alone (GB23 eq. 21): where lambda crosses the spectrum says how much of the curvature an answer uses. Labelled arrays
only; no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from inflab.errors import SettingError

__all__ = ["Spectrum", "spectral_layers", "spectrum"]


@dataclass(frozen=True)
class Spectrum:
    """The eigenvalues of one layer at some of their ranks.

    Attributes:
        rank: from 1, ascending, the first and the last among them.
        value: the eigenvalue at each rank, nat^2, descending.
        size: how many there are: the parameters of the layer.
        mean: of all, nat^2; relative damping is measured in it.
        damping: lambda, absolute, nat^2.
        below: share of the eigenvalues that are smaller than lambda.
    """

    rank: np.ndarray
    value: np.ndarray
    size: int
    mean: float
    damping: float
    below: float


def spectral_layers(factors: xr.DataTree) -> list[str]:
    """Layers that have eigenvalues, in order; none has of methods without curvature."""
    return [str(name) for name, node in factors.children.items() if "eigenvalues" in node]


def spectrum(factors: xr.DataTree, layer: str, points: int = 300) -> Spectrum:
    """The spectrum of one layer.

    Args:
        factors: of an Influence, one child a layer.
        layer: which.
        points: at most so many ranks, half of them log-spaced, half evenly.

    Returns:
        The spectrum.

    Raises:
        SettingError: when the layer has no eigenvalues.
    """
    known = spectral_layers(factors)
    if layer not in known:
        raise SettingError(f"layer={layer!r} has no spectrum; those with one are {known}")
    node = factors[layer]
    value = np.sort(node["eigenvalues"].to_numpy().ravel())[::-1].astype(np.float64)
    n, half = len(value), points // 2
    spaced = (np.geomspace(1, n, points - half), np.linspace(1, n, half))
    rank = np.unique(np.concatenate(spaced).round().astype(np.int64))
    damping = float(node.attrs["damping"])
    return Spectrum(rank, value[rank - 1], n, float(value.mean()), damping, float((value < damping).mean()))
