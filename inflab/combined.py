"""Influences put together: over checkpoints of one training, or over models of an ensemble.

A combined influence is a weighted sum over members, each of which is asked alone, one after the other. Opening a saved
result needs no torch.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import xarray as xr

from inflab.errors import CorpusError, LayerError, SettingError, StoreError
from inflab.influence import Influence
from inflab.schema import root_attrs, variable_attrs
from inflab.store import COUNTS

__all__ = ["Combined", "Ensemble", "Part", "ensemble", "folder_of"]

_NAT = "nat per unit weight"
_SIGN = "positive: members find that training on the sequence makes the query's completion more likely"


@dataclass(frozen=True)
class Part:
    """One term of a combined influence.

    Attributes:
        name: of the folder that holds its results, with `store=`.
        weight: it is multiplied with.
        influence: the member.
    """

    name: str
    weight: float
    influence: Influence


class Combined(Influence):
    """An influence that is a weighted sum over members; see `inflab.Influence` for the questions.

    With `store=`, every member keeps what it finished in a folder of its own there, and the sum is made when all are
    done; `inflab.save` writes it. An index and a plan belong to one model: ask a member for them.
    """

    offers = Influence.offers - {"pairs", "index"}

    def score(self, queries: xr.Dataset, *, store: str | Path | None = None, **settings: Any) -> xr.Dataset:
        """The members' scores, summed with their weights.

        Args:
            queries: a corpus over `query`.
            store: a folder with a store for each member, so that a run that was broken off goes on.
            **settings: as for `inflab.Influence.score`.

        Returns:
            `influence (query, train[, layer])`, with the coordinates of `inflab.Influence.score`. `is_exact` holds
            where all members are exact; errors are the largest of any.
        """
        self.problem.check_corpus(queries, "query")
        self._check_by(settings.get("by"))
        return self._sum("scores", lambda part: part.influence.score(queries, store=folder_of(store, part), **settings))

    def self_influence(self, *, store: str | Path | None = None, **settings: Any) -> xr.Dataset:
        """The members' self-influence, summed with their weights.

        Args:
            store: as for `score`.
            **settings: as for `inflab.Influence.self_influence`.

        Returns:
            `influence (train[, layer])`.
        """
        self._check_by(settings.get("by"))

        def ask(part: Part) -> xr.Dataset:
            return part.influence.self_influence(store=folder_of(store, part), **settings)

        return self._sum("self_influence", ask)

    def attribute(self, queries: xr.Dataset, top: xr.Dataset, **settings: Any) -> xr.Dataset:
        """The members' attributions, summed with their weights.

        Args:
            queries: a corpus over `query`; must hold every query of `top`.
            top: `train (query, rank)`, from `inflab.top`.
            **settings: as for `inflab.Influence.attribute`.

        Returns:
            `influence (query, rank, layer, token[, query_token])`, as for `inflab.Influence.attribute`.
        """
        self.problem.check_corpus(queries, "query")
        return self._sum("tokens", lambda part: part.influence.attribute(queries, top, **settings))

    def plan(self, *args: Any, **settings: Any) -> NoReturn:
        """Refused with a `SettingError`: each member has a plan of its own."""
        raise SettingError(f"{self.attrs['method']} asks several models one after the other; plan a member")

    def _parts(self) -> Iterator[Part]:
        """The terms of the sum, one at a time, since each may need a model of its own."""
        raise NotImplementedError

    def _described(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Attributes of `influence`, from those of a member's."""
        return attrs

    def _weighed(self, value: xr.DataArray, part: Part) -> xr.DataArray:
        return value * part.weight

    def _check_by(self, by: Any) -> None:
        """Refuse what cannot be kept apart; members that share layers can keep them apart."""

    def _check_diagonal(self, what: str) -> None:
        raise SettingError(f"{what} needs one model and one curvature; {self.attrs['method']} has more: ask a member")

    def _sum(self, kind: str, ask: Callable[[Part], xr.Dataset]) -> xr.Dataset:
        total: xr.Dataset | None = None
        described: dict[str, Any] = {}
        counts = dict.fromkeys(COUNTS, 0)
        for part in self._parts():
            found = ask(part)
            described = described or self._described(dict(found["influence"].attrs))
            counts = {name: n + int(found.attrs.get(name, 0)) for name, n in counts.items()}
            found = found.assign(influence=self._weighed(found["influence"], part))
            total = found if total is None else _added(total, found)
        assert total is not None
        attrs = {**total.attrs, **self._attrs(kind), **(counts if set(COUNTS) & set(total.attrs) else {})}
        result: xr.Dataset = total.assign(influence=total["influence"].assign_attrs(described)).assign_attrs(attrs)
        return result


class Ensemble(Combined):
    """The mean of several influences; made by `inflab.ensemble`, which says what its arguments mean."""

    def __init__(self, members: Sequence[Influence], align: Literal["none", "std"]) -> None:
        names = ("method", "seed", "model_fingerprint")
        settings = [json.loads(member.attrs["settings"]) for member in members]
        told = [{n: m.attrs[n] for n in names} | {"settings": own} for m, own in zip(members, settings, strict=True)]
        first = members[0].attrs
        models = " ".join(str(member.attrs["model_fingerprint"]) for member in members)
        attrs = root_attrs(
            "factors",
            method="ensemble",
            settings=json.dumps({"align": align, "members": told}),
            seed=first["seed"],
            model_fingerprint=hashlib.sha256(models.encode()).hexdigest()[:16],
            corpus_fingerprint=first["corpus_fingerprint"],
            n_train=first["n_train"],
        )
        tree: xr.DataTree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), "/factors": xr.Dataset()})
        super().__init__(tree, members[0].problem)
        self._members = tuple(members)
        self._align = align

    @property
    def members(self) -> tuple[Influence, ...]:
        """The influences whose mean this is."""
        return self._members

    @property
    def method(self) -> Any:
        """Refused with a `SettingError`: the members have methods."""
        raise SettingError("an ensemble has no method of its own; see `.method` of its `members`")

    def attribute(self, queries: xr.Dataset, top: xr.Dataset, **settings: Any) -> xr.Dataset:
        """The mean of the members' attributions.

        Args:
            queries: a corpus over `query`.
            top: from `inflab.top`.
            **settings: as for `inflab.Influence.attribute`.

        Returns:
            As for `inflab.Influence.attribute`. With `align="std"` each member scores the queries too.

        Raises:
            CorpusError: when the members' corpora do not hold the same tokens.
            LayerError: when the members do not cover layers of the same names.
        """
        if len({member.attrs["corpus_fingerprint"] for member in self._members}) > 1:
            raise CorpusError("members have corpora of the same ids with other tokens; attribute with a member")
        self._check_layers("attribute")
        if self._align == "none":
            return super().attribute(queries, top, **settings)
        self.problem.check_corpus(queries, "query")
        given = {name: value for name, value in settings.items() if name not in ("view", "pairs")}

        def ask(part: Part) -> xr.Dataset:
            found = part.influence.attribute(queries, top, **settings)
            unit = _unit(part.influence.score(queries, **given)["influence"])
            return found.assign(influence=found["influence"] * unit.sel(query=found["query"].to_numpy()))

        return self._sum("tokens", ask)

    def with_damping(self, damping: float, damping_kind: Literal["relative", "absolute"] | None = None) -> Ensemble:
        """The ensemble of the members under another damping; see `inflab.Influence.with_damping`."""
        return Ensemble([member.with_damping(damping, damping_kind) for member in self._members], self._align)

    def save(self, path: str | Path) -> None:
        """Refused: an ensemble holds nothing of its own.

        Raises:
            StoreError: always.
        """
        raise StoreError(f"path={str(path)!r}: an ensemble holds nothing of its own; save its members")

    def __repr__(self) -> str:
        names = ", ".join(str(member.attrs["method"]) for member in self._members)
        n = len(self._members)
        return f"Influence(ensemble of {n}: {names}; align={self._align}, n_train={self.attrs['n_train']})"

    def _parts(self) -> Iterator[Part]:
        for number, member in enumerate(self._members):
            yield Part(f"member-{number}", 1 / len(self._members), member)

    def _weighed(self, value: xr.DataArray, part: Part) -> xr.DataArray:
        is_aligned = self._align == "none" or "train" not in value.dims  # tokens are aligned where they are asked for
        return value * part.weight if is_aligned else value * _unit(value) * part.weight

    def _described(self, attrs: dict[str, Any]) -> dict[str, Any]:
        n = len(self._members)
        if self._align == "none":
            return {**attrs, "description": f"mean over {n} members: {attrs['description']}"}
        description = f"mean over {n} members, each divided by its standard deviation over `train`, query by query"
        return variable_attrs("influence", "1", description, sign=_SIGN)

    def _check_by(self, by: Any) -> None:
        if by:
            self._check_layers(f"by={by!r}")

    def _check_layers(self, what: str) -> None:
        names = [list(member.factors.children) for member in self._members]
        if any(found != names[0] for found in names):
            raise LayerError(f"{what} needs members with layers of the same names; leave it out, or ask a member")


def ensemble(influences: Iterable[Influence], *, align: Literal["none", "std"] | None = None) -> Ensemble:
    """The mean of several influences: over seeds, over models trained alike, or over methods.

    Args:
        influences: fitted on corpora with the same ids in the same order; their models may differ.
        align: how scales are made alike. "none": a plain mean, right for nats. "std": each member's scores are
            divided by their standard deviation over the training sequences scored, query by query, so that each has
            the same say whatever its units. None: "none" where all members have one method; otherwise it must be said.

    Returns:
        An `Influence` with `members`, which answers with their mean and cannot be saved.

    Raises:
        CorpusError: when the corpora have other ids.
        SettingError: no members, or no influences; members of several methods without `align`, or of several units
            with `align="none"`.

    Example:
        >>> other = inflab.EKFAC(layers="*.mlp.*").fit(problem, seed=1)
        >>> both = inflab.ensemble([ekfac, other])
        >>> both.score(queries)["influence"].dims
        ('query', 'train')
    """
    members: list[Any] = list(influences)
    odd = [member for member in members if not isinstance(member, Influence)]
    if odd or not members:
        what = f"holds a {type(odd[0]).__name__}" if odd else "is empty"
        raise SettingError(f"influences {what}; give fitted influences, such as [inflab.EKFAC().fit(problem), ...]")
    if align not in (None, "none", "std"):
        raise SettingError(f"align={align!r} is not one of 'none', 'std'")
    methods = sorted({str(member.attrs["method"]) for member in members})
    if align is None and len(methods) > 1:
        raise SettingError(f"influences have the methods {', '.join(methods)}, whose scales differ; choose align='std'")
    units = sorted({units_of(member) for member in members})
    if align != "std" and len(units) > 1:
        raise SettingError(f"influences are in {' and '.join(map(repr, units))}; use align='std'")
    ids = members[0].problem.corpus["train"].to_numpy()
    for number, member in enumerate(members):
        other = member.problem.corpus["train"].to_numpy()
        if not np.array_equal(ids, other):
            raise CorpusError(
                f"member {number} was fitted on a corpus with other ids in `train` than member 0; members must share "
                "their training sequences, in one order"
            )
    return Ensemble(members, align or "none")


def folder_of(store: str | Path | None, part: Part | str) -> Path | None:
    """Where a part of a combined result is kept, below the folder that a user gave."""
    return None if store is None else Path(store) / (part if isinstance(part, str) else part.name)


def units_of(influence: Influence) -> str:
    """Units of an influence's scores, before any are made."""
    is_bare = isinstance(influence, Ensemble) and influence._align == "std"
    return "1" if is_bare else str(influence.attrs.get("units", _NAT))


def _added(total: xr.Dataset, found: xr.Dataset) -> xr.Dataset:
    """The sum of influences; what holds of both where variables are masks, and the larger of two errors."""
    new: dict[str, Any] = {}
    for name, value in found.data_vars.items():
        before, _ = xr.align(total[name], value, join="exact")
        if name == "influence":
            new[str(name)] = before + value
        elif value.dtype == bool:
            new[str(name)] = (before & value).assign_attrs(before.attrs)
        elif value.dtype.kind == "f":
            new[str(name)] = xr.apply_ufunc(np.fmax, before, value, dask="allowed").assign_attrs(before.attrs)
    return total.assign(new)


def _unit(value: xr.DataArray) -> xr.DataArray:
    """One over the standard deviation over `train`, of all layers together; 0 where every sequence scores alike."""
    spread = (value.sum("layer", skipna=False) if "layer" in value.dims else value).std("train")
    return 1 / spread.where(spread > 0, np.inf)
