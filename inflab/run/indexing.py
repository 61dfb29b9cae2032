"""Writing an index and reading its codes: its size, the sequences that measure it, the pass that fills it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from inflab import labels
from inflab.corpus import fingerprint
from inflab.errors import SettingError, is_finite_number
from inflab.kronecker import Curvature
from inflab.run.asking import identity
from inflab.run.index import IndexSpec, Sample, choose, coordinates, index_rows
from inflab.run.local import Pass
from inflab.run.rows import Block, blank, filled
from inflab.run.work import working
from inflab.schema import variable_attrs
from inflab.sketch import fidelity

__all__ = ["Codes", "check_size", "smallest", "write"]

_SAMPLE = 32  # training sequences that serve as queries, to measure the fidelity
_SAMPLE_BYTES = 2**30  # their gradients are held at once
_PROBE = 256  # sequences they are scored against to choose a size
_PIECE = 2**28  # bytes of codes read from disk at a time, where they do not fit the memory budget
_SIZES = 0.25 * 2.0 ** (-np.arange(29) / 4)[::-1]  # that `fidelity` chooses from: 0.002 to 0.25, a step 19%


class Codes:
    """Codes and scales of the sequences, read once where they fit the memory.

    Args:
        arrays: of the store: `index_code (train, index_byte)`, `index_scale (train, index_group)`.
    """

    def __init__(self, arrays: xr.Dataset) -> None:
        self._arrays = arrays
        self.held: tuple[Tensor, Tensor] | None = None

    def pieces(self, budget: int) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Some sequences at a time: all, from memory, when they fit half of the budget.

        Yields:
            Which sequences, `(n, byte)` uint8, `(n, group)` float64.
        """
        n, width = (self._arrays.sizes[dim] for dim in ("train", "index_byte"))
        if self.held is None and n * width <= budget // 2:
            self.held = self._read(slice(0, n))
        if self.held is not None:
            yield slice(0, n), *self.held
            return
        rows = max(1, min(budget // 4, _PIECE) // width)
        for start in range(0, n, rows):
            mine = slice(start, min(start + rows, n))
            yield mine, *self._read(mine)

    def _read(self, rows: slice) -> tuple[Tensor, Tensor]:
        part = self._arrays[["index_code", "index_scale"]].isel(train=rows)
        return torch.from_numpy(part["index_code"].to_numpy()), torch.from_numpy(
            part["index_scale"].to_numpy()
        ).double()


def check_size(size: float | None, fidelity: float | None) -> None:
    """Refuse a size, or a fidelity in its place, outside its domain.

    Raises:
        SettingError: saying what may be given.
    """
    if (size is None) == (fidelity is None):
        raise SettingError(
            f"size={size!r}, fidelity={fidelity!r}: give exactly one: size=0.025 for 2.5% of the gradients' bytes, or "
            "fidelity=0.98 for the smallest index that orders sequences so well"
        )
    name, value, most = ("size", size, 0.25) if size is not None else ("fidelity", fidelity, 1.0)
    if not is_finite_number(value) or not 0 < float(value) <= most:  # type: ignore[arg-type]
        raise SettingError(
            f"{name}={value!r} must be above 0 and at most {most}"
            + (", 8 bits for every coordinate" if name == "size" else ", a rank correlation")
        )


def write(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    train: xr.Dataset,
    attrs: Callable[..., Mapping[str, Any]],
    path: str | Path,
    *,
    size: float,
    factors: str,
    client: Any = None,
    shard_size: int | None = None,
) -> dict[str, int]:
    """Write an index.

    Args:
        run: the pass.
        curvatures: of each layer.
        train: the training sequences.
        attrs: of the store's root, given what is to be added.
        path: the store: new, unfinished or finished.
        size: bytes of a sequence as a share of its gradient in float32.
        factors: fingerprint of what it is made from.
        client: a dask client, or None.
        shard_size: sequences in a shard, or None.

    Returns:
        How many shards were computed, and how many were there.
    """
    n = train.sizes["train"]
    spec = choose(curvatures, run.layers, size)
    sample = _sampled(n, spec, run.seed)
    kept = {"kept_energy": spec.kept_energy, "expected_error": spec.expected_error}
    own = attrs(size=spec.share, wanted_size=size, **kept)
    template = _template(train, spec, sample, own)

    def of() -> dict[str, Any]:
        more = {"factors_fingerprint": factors, "train_fingerprint": fingerprint(train)}
        return identity("index", run.problem, own, size=size, **more)

    with working(
        run, np.arange(n), int(train.sizes.get("token", 1)), store=path, client=client, shard_size=shard_size,
        identity=of, n_bytes=template.nbytes, settled=lambda run: {"blocks": 1},
    ) as work:  # fmt: skip
        other = None if train is run.problem.corpus else train
        *shared, corpus = (work.crew.share(value) for value in (work.quiet(), curvatures, spec, other))

        def prepare(block: Block) -> list[Any]:
            return [work.crew.call(_sample, *shared, corpus, sample), corpus]

        filled(work, template, index_rows, shared, prepare=prepare, what="index")
        return work.attrs()


def smallest(run: Pass, curvatures: Mapping[str, Curvature], train: xr.Dataset, wanted: float) -> float:
    """The smallest size, in steps of a fifth, at which a sample is ordered with the wanted fidelity.

    Args:
        run: the pass: six of them, over at most 256 sequences each.
        curvatures: of each layer.
        train: the training sequences.
        wanted: the median Spearman correlation with exact scores.

    Returns:
        The size.

    Raises:
        SettingError: when the largest size does not reach it.
    """
    whole = choose(curvatures, run.layers, float(_SIZES[-1]))
    n = train.sizes["train"]
    sample = _sampled(n, whole, run.seed)
    gradients = _gradients(run, curvatures, train, sample)
    rest = np.setdiff1d(np.arange(n), sample)
    more = np.random.default_rng(run.seed).permutation(rest)[: _PROBE - len(sample)]
    probe = np.sort(np.concatenate([sample, more]))
    own = np.searchsorted(probe, sample)
    measured: dict[int, float] = {}

    def reaches(step: int) -> bool:
        try:
            spec = choose(curvatures, run.layers, float(_SIZES[step]))
        except SettingError:  # too small for a single coordinate
            return False
        found = index_rows(run, curvatures, spec, Sample.of(gradients, spec), train, probe)
        measured[step], _ = fidelity(found["index_exact"], found["index_sketched"], own)
        return measured[step] >= wanted

    low, high = -1, len(_SIZES) - 1
    if not reaches(high):
        raise SettingError(
            f"fidelity={wanted!r} is not reached at the largest size, {_SIZES[-1]}, where a sample has "
            f"{measured[high]:.4f}; ask for less"
        )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return float(_SIZES[high])


def _sampled(n: int, spec: IndexSpec, seed: int) -> np.ndarray:
    """Positions of the sequences that serve as queries to measure fidelity; fewer where gradients are large."""
    most = min(n, _SAMPLE, max(2, _SAMPLE_BYTES // (4 * spec.dense)))
    return np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _template(corpus: xr.Dataset, spec: IndexSpec, sample: np.ndarray, attrs: Mapping[str, Any]) -> xr.Dataset:
    n, groups = corpus.sizes["train"], spec.groups
    counts = [len(group.place) for group in groups]
    narrow = np.int32 if spec.dense < 2**31 else np.int64

    def of(name: str, units: str, description: str) -> dict[str, Any]:
        return variable_attrs(name, units, description)

    variables: dict[str, Any] = {
        "index_code": (
            ("train", "index_byte"),
            blank((n, spec.width), np.uint8),
            of("codes", "1", "kept coordinates of each whitened gradient, packed by group (see inflab.sketch)"),
        ),
        "index_scale": (
            ("train", "index_group"),
            blank((n, len(groups)), np.float32),
            of("index_scale", "nat^0.5", "width of a step of the codes"),
        ),
        "index_exact": (
            ("train", "index_sample"),
            blank((n, len(sample)), np.float32),
            of("exact influence", "nat per unit weight", "influence on the log-probability of sampled sequences"),
        ),
        "index_sketched": (
            ("train", "index_sample"),
            blank((n, len(sample)), np.float32),
            of("influence from codes", "nat per unit weight", "the same from the codes"),
        ),
    }
    coords = {
        **labels.train_coords(corpus),
        "index_byte": np.arange(spec.width),
        "index_group": np.arange(len(groups)),
        "index_group_layer": ("index_group", np.array([group.layer for group in groups], dtype=object)),
        "index_group_bits": ("index_group", np.array([group.bits for group in groups])),
        "index_group_start": ("index_group", np.array([group.start for group in groups])),
        "index_coordinate": np.arange(sum(counts), dtype=narrow),
        "index_coordinate_group": ("index_coordinate", np.repeat(np.arange(len(groups), dtype=np.int32), counts)),
        "index_coordinate_place": (
            "index_coordinate",
            np.concatenate([group.place for group in groups]).astype(narrow),
        ),
        "index_sample": corpus["train"].to_numpy()[sample],
        "index_sample_position": ("index_sample", sample),
    }
    return xr.Dataset(variables, coords=coords, attrs=dict(attrs))


def _sample(
    run: Pass,
    curvatures: Mapping[str, Curvature],
    spec: IndexSpec,
    train: xr.Dataset | None,
    positions: np.ndarray,
) -> Sample:
    """The sequences that serve as queries; found by name, since workers import it."""
    corpus = run.problem.corpus if train is None else train
    return Sample.of(_gradients(run, curvatures, corpus, positions), spec)


def _gradients(
    run: Pass, curvatures: Mapping[str, Curvature], train: xr.Dataset, positions: np.ndarray
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = coordinates(run, curvatures, train, None, quantity="loss", positions=positions)
    return found
