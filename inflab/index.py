"""Index: compressed gradients of a training corpus on disk, so that a new query never touches the training data.

`Influence.index` makes one pass over the corpus and keeps of each gradient the coordinates that scores rest on, in few
bits (`inflab.sketch` says which and why). A question then costs the gradients of its queries and one product with the
codes: text typed into a notebook is answered at once. How well the index orders sequences is measured in the same pass,
on training sequences that serve as queries.

What is kept of a sequence is `t / sqrt(Lambda + lambda)` in the eigenbasis. Under another damping lambda' the influence
is the same dot product with `q sqrt(Lambda + lambda) / (Lambda + lambda')`: `Index.with_damping` touches no code.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from inflab import labels
from inflab import store as stores
from inflab.cards import as_html, index_card
from inflab.errors import CorpusError, SettingError, StoreError
from inflab.fitted import Fitted
from inflab.kronecker import Curvature
from inflab.run.index import Group, coordinates, kept
from inflab.run.indexing import Codes, check_size, smallest, write
from inflab.run.local import Pass
from inflab.schema import influence_attrs
from inflab.sketch import Queries, fidelity

__all__ = ["Index", "build"]


class Index:
    """Compressed training gradients, ready to be asked. Made by `Influence.index`, or by `Index.open`.

    Args:
        arrays: of the store (kind "index").
        influence: the fitted method it was made with: gives the gradients of queries.
        path: where the store is.
        memory: budget such as "3GB": codes that fit half of it are read once and kept.

    Example:
        >>> ekfac.index("index.zarr", size=0.1).score(queries)["influence"].dims  # one pass over the data, then none
        ('query', 'train')
    """

    def __init__(
        self, arrays: xr.Dataset, influence: Fitted, path: str | Path, memory: int | str | None = None
    ) -> None:
        self._arrays = arrays
        self._influence = influence
        self._path = str(path)
        self._memory = memory
        self._codes = Codes(arrays)
        self._made = _dampings(influence)

    @classmethod
    def open(cls, path: str | Path, influence: Fitted, *, memory: int | str | None = None) -> Index:
        """Reopen an index.

        Args:
            path: the store.
            influence: the fitted method it was made with, with its problem.
            memory: budget such as "3GB": codes that fit half of it are read once and kept.

        Returns:
            The index.

        Raises:
            StoreError: nothing there, half written, no index, or made from another model, corpus, damping or other
                factors: both values are named.
        """
        arrays = stores.open_tree(path).to_dataset()
        if arrays.attrs.get("kind") != "index":
            raise StoreError(
                f"path={str(path)!r} holds {arrays.attrs.get('kind')!r}, no index; open it with inflab.load"
            )
        _refuse_another(path, arrays.attrs, _origin(influence))
        return cls(arrays, influence, path, memory)

    def with_damping(self, damping: float, damping_kind: Literal["relative", "absolute"] | None = None) -> Index:
        """The same codes under another damping: nothing is read or computed again, and memory is shared.

        Which coordinates are kept, and how finely, stays as chosen at the damping of the making
        (`made_with_damping`): a much smaller one gives weight to coordinates that are not there. `kept_energy` and
        `expected_error` are those of the new damping; `fidelity` and `top_overlap` were measured at the old one and
        are NaN at any other.

        Args:
            damping: not negative.
            damping_kind: "relative" or "absolute"; as it is when None.

        Returns:
            A new `Index`.

        Raises:
            SettingError: when damping is negative.
            NumericsError: when a layer would be singular; named.
        """
        influence = self._influence.with_damping(damping, damping_kind)
        found = Index(self._arrays, influence, self._path, self._memory)
        found._codes, found._made = self._codes, self._made
        return found

    @property
    def attrs(self) -> dict[str, Any]:
        """Size, kept energy, measured fidelity, settings and fingerprints."""
        found = {str(name): value for name, value in self._arrays.attrs.items()}
        found |= {f"made_with_{name}": found[name] for name in ("damping", "damping_kind")}
        found["sample"] = self._arrays.sizes["index_sample"]
        median, overlap = self._fidelity
        if not self._is_as_made:
            energy, error = self._kept
            found |= {"settings": self._influence.attrs["settings"], "kept_energy": energy, "expected_error": error}
            found |= _damping(self._influence)
            median = overlap = float("nan")
        return {**found, "fidelity": median, "top_overlap": overlap}

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """Which coordinates of which layer are kept in how many bits."""
        of_group = self._arrays["index_coordinate_group"].to_numpy()
        place = self._arrays["index_coordinate_place"].to_numpy().astype(np.int64)
        columns = ("index_group_layer", "index_group_bits", "index_group_start")
        rows = zip(*(self._arrays[name].to_numpy().tolist() for name in columns), strict=True)
        return tuple(
            Group(str(layer), int(bits), place[of_group == number], int(start))
            for number, (layer, bits, start) in enumerate(rows)
        )

    def score(
        self,
        queries: xr.Dataset,
        *,
        by: str | Iterable[str] = (),
        memory: int | str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """Approximate influence of every training sequence on every query, without a pass over the training data.

        Args:
            queries: a corpus over `query` (`inflab.encode(..., dim="query")`).
            by: "layer" keeps the layers apart; () sums them.
            memory: budget such as "3GB"; that of the index when None. Queries that do not fit it together read the
                codes once more a block.
            batch_size: queries in one pass; from the budget when None.
            progress: whether to show progress bars.

        Returns:
            `influence (query, train[, layer])` as of `Influence.score`; attrs `index`, `size`, `kept_energy`,
            `fidelity` and `top_overlap` say from where and how good.

        Raises:
            CorpusError: when the queries do not fit the problem.
            SettingError: when `by` or `memory` is outside its domain.
        """
        wanted = {by} if isinstance(by, str) else set(by)
        if not wanted <= {"layer"}:
            raise SettingError(f"by={sorted(wanted)} is not known; use by='layer' or by=()")
        problem = self._influence.problem
        problem.check_corpus(queries, "query")
        run, curvatures = self._influence._prepare(self._memory if memory is None else memory, batch_size, progress)
        place = {layer.name: row for row, layer in enumerate(run.layers)}
        n_query, n_train = queries.sizes["query"], self._arrays.sizes["train"]
        by_layer = bool(wanted)
        value = np.zeros((n_query, n_train, len(place)) if by_layer else (n_query, n_train), dtype=np.float32)
        each = 8 * sum(len(group.place) for group in self.groups) + 8 * n_train
        block = max(1, min(n_query, run.budget() // (2 * each)))
        for start in range(0, n_query, block):
            rows = slice(start, min(start + block, n_query))
            ready = self._ready(run, curvatures, queries, np.arange(rows.start, rows.stop))
            for mine, code, scale in self._codes.pieces(run.budget()):
                for number, group in enumerate(self.groups):
                    product_nq = ready[number].multiply(code[:, group.bytes]).mul_(scale[:, number, None])
                    target_qn = value[rows, mine, place[group.layer]] if by_layer else value[rows, mine]
                    # The loss is -log p: its gradient enters with a minus.
                    target_qn -= product_nq.T.float().numpy()
        coords = {**labels.train_coords(self._arrays), **labels.query_coords(queries)}
        coords = labels.layered(coords, run.layers) if by_layer else coords
        own = self.attrs
        measured = f"rank correlation with exact scores on a sample {own['fidelity']:.3f}"
        if not self._is_as_made:
            made = f"{own['made_with_damping']} ({own['made_with_damping_kind']})"
            measured = f"they were chosen at damping {made}, and fidelity was measured there alone"
        note = (
            f"from an index whose coordinates hold {own['kept_energy']:.1%} of the energy in {own['size']:.2%} of the "
            f"bytes; {measured}"
        )
        named = (
            "size", "kept_energy", "expected_error", "fidelity", "top_overlap", "sample", "made_with_damping",
            "made_with_damping_kind",
        )  # fmt: skip
        attrs = self._influence._attrs("scores", rank=0, index=self._path, **{name: own[name] for name in named})
        described = influence_attrs(f"approximate influence of each training sequence on each query, {note}")
        dims = ("query", "train", "layer")[: value.ndim]
        return xr.Dataset({"influence": (dims, value, described)}, coords=coords, attrs=attrs)

    def _ready(
        self, run: Pass, curvatures: Mapping[str, Curvature], queries: xr.Dataset, positions: np.ndarray
    ) -> list[Queries]:
        found = coordinates(
            run, curvatures, queries, self.groups, quantity="measurement", positions=positions, made=self._made
        )
        return [Queries.of(value_qk, group.bits) for value_qk, group in zip(found, self.groups, strict=True)]

    @cached_property
    def _fidelity(self) -> tuple[float, float]:
        own = self._arrays["index_sample_position"].to_numpy()
        return fidelity(self._arrays["index_exact"].to_numpy(), self._arrays["index_sketched"].to_numpy(), own)

    @property
    def _is_as_made(self) -> bool:
        return _dampings(self._influence) == self._made

    @cached_property
    def _kept(self) -> tuple[float, float]:
        run, curvatures = self._influence._prepare(self._memory, None, False)
        return kept(curvatures, run.layers, self.groups)

    def __repr__(self) -> str:
        own = self.attrs
        measured = f"fidelity {own['fidelity']:.3f}, top-10 overlap {own['top_overlap']:.2f} on {own['sample']} of them"
        if not self._is_as_made:
            measured = f"fidelity not measured at damping {own['damping']} {own['damping_kind']}"
        return (
            f"Index({self._arrays.sizes['train']} sequences, {own['size']:.2%} of their gradients' bytes, "
            f"{own['kept_energy']:.1%} of the energy; {measured})"
        )

    def _repr_html_(self) -> str:
        n_train, n_bytes = self._arrays.sizes["train"], self._arrays["index_code"].nbytes
        return as_html(lambda: index_card(self.attrs, n_train, n_bytes, self._path).html(), self.__repr__)


def build(
    influence: Fitted,
    path: str | Path,
    *,
    size: float | None = None,
    fidelity: float | None = None,
    train: xr.Dataset | None = None,
    client: Any = None,
    memory: int | str | None = None,
    batch_size: int | None = None,
    shard_size: int | None = None,
    progress: bool = True,
) -> Index:
    """Write an index of the training corpus; see `Influence.index`.

    Returns:
        The index.

    Raises:
        CorpusError: when the corpus has fewer than three sequences, so that no order can be measured.
    """
    check_size(size, fidelity)
    train = influence._train(train)
    n = train.sizes["train"]
    if n < 3:
        raise CorpusError(f"train has {n} sequences; an index needs at least 3, so that their order can be measured")
    run, curvatures = influence._prepare(memory, batch_size, progress)
    origin = _origin(influence)
    if fidelity is not None:
        size = smallest(run, curvatures, train, float(fidelity))
    assert size is not None

    def attrs(**more: Any) -> dict[str, Any]:
        return influence._attrs("index", **more, **origin)

    counts = write(
        run, curvatures, train, attrs, path, size=float(size), factors=origin["factors_fingerprint"], client=client,
        shard_size=shard_size,
    )  # fmt: skip
    made = Index.open(path, influence, memory=memory)
    made._arrays = made._arrays.assign_attrs(counts)
    return made


def _origin(influence: Fitted) -> dict[str, Any]:
    """What an index is made from, to be compared when it is opened again."""
    digest = hashlib.sha256()
    for name, node in influence.factors.children.items():
        digest.update(f"{name} {node.attrs['damping']!r}".encode())
        for variable in sorted(map(str, node.data_vars)):
            value = np.ascontiguousarray(node[variable].to_numpy())
            digest.update(f"{variable} {value.dtype.str} {value.shape}".encode())
            digest.update(value.data)
    return {
        "model_fingerprint": influence.problem.model_fingerprint(),
        "corpus_fingerprint": influence.problem.corpus_fingerprint(),
        **_damping(influence),
        "factors_fingerprint": digest.hexdigest()[:16],
    }


def _damping(influence: Fitted) -> dict[str, Any]:
    settings = json.loads(influence.attrs["settings"])
    return {"damping": float(settings["damping"]), "damping_kind": str(settings["damping_kind"])}


def _dampings(influence: Fitted) -> dict[str, float]:
    """The absolute damping of each layer."""
    return {str(name): float(node.attrs["damping"]) for name, node in influence.factors.children.items()}


def _refuse_another(path: str | Path, held: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if held.get(name) != value:
            what = name.removesuffix("_fingerprint")
            raise StoreError(
                f"path={str(path)!r} is an index made with {name} {held.get(name)!r}, influence has {value!r}; "
                f"give the Influence with the same {what}, or make another index"
            )
