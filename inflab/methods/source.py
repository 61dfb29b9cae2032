"""SOURCE: influence through the segments of a training (Bae et al. 2024, arXiv 2405.12186).

Gradient descent on the mean loss, `theta <- theta - eta grad L`, is followed to first order in the weight of a
sequence. In a segment l of K_l steps the curvature and the sequence's gradient are taken as constant, so that

    influence = sum_l  grad f^T [prod_{k>l} S_k] F_l grad log p_l,    S_k = exp(-eta_k K_k G_k),
                                                        F_l = (1 - exp(-eta_l K_l G_l)) G_l^-1

G_l is the segment's EK-FAC, in whose eigenbasis both are functions of the eigenvalues. The gradient of f is that of the
final model. A sequence of weight 1 / N + eps in the mean loss makes the scale that of every influence: one segment that
trains to the end, `eta K s -> inf`, gives EK-FAC without damping; one that barely moves gives `eta K` times the dot
product. Batches of any size do, since their mean loss is that of the training set on average.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import xarray as xr

from inflab import factors as factor_arrays
from inflab import labels
from inflab.combined import Combined, Part, folder_of
from inflab.errors import SettingError, check_count
from inflab.influence import Influence
from inflab.kronecker import Curvature
from inflab.layer import select_layers
from inflab.methods.ekfac import EKFAC
from inflab.methods.tracin import checkpoints_of
from inflab.problem import Checkpoint, Problem
from inflab.run.segments import Following, averaged, following, own_influence, propagated
from inflab.schema import influence_attrs, root_attrs

__all__ = ["SOURCE", "SourceInfluence"]


class SourceInfluence(Combined):
    """A sum over the segments of a training; see `inflab.Influence` for the questions.

    Each checkpoint costs the passes of `EKFAC`: over the training data, and over the queries for the final model.
    """

    def with_damping(self, damping: float, damping_kind: Literal["relative", "absolute"] | None = None) -> Self:
        """The same segments with another number added to every eigenvalue; see `inflab.SOURCE`."""
        kind = damping_kind or self.method.damping_kind
        method = dataclasses.replace(self.method, damping=damping, damping_kind=kind)
        settings = json.loads(self.attrs["settings"]) | {"damping": damping, "damping_kind": kind}
        nodes = {node.path: node.to_dataset(inherit=False) for node in self._tree.subtree}
        nodes = {path: _damped(node, method) if "damping" in node.attrs else node for path, node in nodes.items()}
        tree: xr.DataTree = xr.DataTree.from_dict(nodes)
        tree.attrs = {**self.attrs, "settings": json.dumps(settings)}
        return self._with(tree, method)

    def _parts(self) -> Iterator[Part]:
        method: SOURCE = self.method
        groups = _groups(self.problem.checkpoints, method.segments)
        nodes = [*self._tree["segments"].children.values(), self.factors] if len(groups) > 1 else [self.factors]
        told = {name: self.attrs[name] for name in ("model_fingerprint", "checkpoints_fingerprint")}
        for number, group in enumerate(groups):
            # Segments from this one on, the last first: the way of a query back.
            later = [(node, _time(g)) for node, g in zip(nodes, groups, strict=True)][number:][::-1]
            for place, checkpoint in enumerate(group):
                tree = self._tree.copy()
                settings = json.loads(self.attrs["settings"]) | told | {"segment": number, "checkpoint": place}
                tree.attrs = {**self._tree.attrs, "settings": json.dumps(settings)}
                there = self.problem.at(checkpoint)
                member = _Segment(tree, self.problem, method, there=there, later=later)
                yield Part(f"segment-{number}-{place}", 1 / len(group), member)

    def _described(self, attrs: dict[str, Any]) -> dict[str, Any]:
        n = len(_groups(self.problem.checkpoints, self.method.segments))
        return influence_attrs(f"influence of training on the sequence through {n} segments of the training")


class _Segment(Influence):
    """What training on a sequence in one segment does to the final model's measurements.

    Args:
        there: the problem at a checkpoint of the segment: training gradients are taken there.
        later: factors and `eta K` of the segments a query goes back through, the last first; this one is at the end.
    """

    def __init__(
        self, tree: xr.DataTree, problem: Problem, method: Any, *, there: Problem, later: list[tuple[Any, float]]
    ) -> None:
        super().__init__(tree, problem, method)
        self._there = there
        self._later = later

    def self_influence(self, *, by: str | Iterable[str] = (), **settings: Any) -> xr.Dataset:
        refused = [name for name in ("store", "client") if settings.pop(name, None) is not None]
        if refused:
            raise SettingError(f"{refused[0]}= is not for the self-influence of SOURCE; leave it out")
        wanted = {by} if isinstance(by, str) else set(by)
        if not wanted <= {"layer"}:
            raise SettingError(f"by={sorted(wanted)} is not known; use by='layer' or by=()")
        train = self._train(settings.pop("train", None))
        settings.pop("shard_size", None)
        run, curvatures = self._prepare(**{"memory": None, "batch_size": None, "progress": True} | settings)
        value_tl = own_influence(run, curvatures, train)
        dims, coords = ("train", "layer") if wanted else ("train",), labels.train_coords(train)
        return xr.Dataset(
            {"influence": (dims, value_tl if wanted else value_tl.sum(axis=1), influence_attrs("self-influence"))},
            coords=labels.layered(coords, run.layers) if wanted else coords,
            attrs=self._attrs("self_influence"),
        )

    def _prepare(
        self, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> tuple[Following, Mapping[str, Curvature]]:
        final, _ = super()._prepare(memory, batch_size, progress)
        back = [(factor_arrays.curvatures(node, final.layers, self.problem.model), time) for node, time in self._later]
        curvatures = {layer.name: propagated([(c[layer.name], time) for c, time in back]) for layer in final.layers}
        return following(final, self._there), curvatures

    def _check_diagonal(self, what: str) -> None:
        raise SettingError(f"{what} needs one curvature; SOURCE goes through that of several segments: use EKFAC")


@dataclass(frozen=True, kw_only=True)
class SOURCE(EKFAC):
    """EK-FAC in each segment of a training, and the way of a gradient through them.

    The checkpoints of the problem end the segments, with their mean rates and steps; the problem's own model is the
    final one, of which the queries are asked. Settings of `EKFAC` hold for every checkpoint's fit.

    Args:
        damping: added to every eigenvalue, such as the training's weight decay; 0 is the paper's and never singular.
        damping_kind: "absolute", or "relative": times the layer's mean eigenvalue in each segment.
        segments: put consecutive checkpoints together into so many segments of nearly equal numbers; None: one a
            checkpoint. A segment's eigenvectors are those of the mean covariances of its checkpoints, its eigenvalues
            those of the mean of their EK-FACs along these axes, and training gradients are averaged over them.

    Example:
        >>> source = inflab.SOURCE().fit(followed)  # a problem with two checkpoints
        >>> source.score(asked)["influence"].dims
        ('query', 'train')
    """

    damping: float = 0.0
    damping_kind: Literal["relative", "absolute"] = "absolute"
    segments: int | None = None
    result: ClassVar[type[Influence]] = SourceInfluence

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segments is not None:
            check_count("segments", self.segments, "None for one a checkpoint")

    def fit(
        self,
        problem: Problem,
        *,
        store: str | Path | None = None,
        client: Any = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        shard_size: int | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Influence:
        """Fit EK-FAC at every checkpoint of the problem, on its training corpus.

        Args:
            problem: model, task, corpus and checkpoints.
            store: a folder in which each checkpoint's fit keeps what is finished, so that a run that was broken off
                goes on; `Influence.save` writes the whole.
            client: as for `EKFAC`, like all that follow.
            memory: budget of each worker.
            batch_size: examples in one pass.
            shard_size: examples that are done and kept together.
            seed: of the pseudo-labels, the same at every checkpoint.
            progress: whether to show progress bars.

        Returns:
            An `Influence`, ready to be asked.

        Raises:
            SettingError: the problem has no checkpoints, or fewer than `segments`.
        """
        if not isinstance(problem, Problem):
            raise SettingError(f"problem is a {type(problem).__name__}; expected an inflab.Problem")
        needed = self.needs(problem)
        layers = select_layers(problem.model, self.layers)
        own = {field.name: getattr(self, field.name) for field in dataclasses.fields(EKFAC)}
        # The inverse is never taken: damping is only there to let a singular layer pass.
        ekfac = EKFAC(**own | {"layers": [layer.name for layer in layers], "damping": 0.1, "damping_kind": "relative"})
        given: dict[str, Any] = {"memory": memory, "batch_size": batch_size, "shard_size": shard_size, "seed": seed}
        nodes: list[dict[str, xr.Dataset]] = []
        for number, group in enumerate(_groups(problem.checkpoints, self.segments)):
            fits = [
                ekfac.fit(
                    problem.at(checkpoint), store=folder_of(store, f"segment-{number}-{place}"), client=client,
                    progress=progress, **given,
                )
                for place, checkpoint in enumerate(group)
            ]  # fmt: skip
            found = {layer.name: averaged([fit.factors[layer.name] for fit in fits]) for layer in layers}
            nodes.append({name: _damped(node, self) for name, node in found.items()})
        attrs = root_attrs(
            "factors",
            method=type(self).__name__,
            settings=self.settings(layers),
            seed=seed,
            model_fingerprint=problem.model_fingerprint(),
            corpus_fingerprint=problem.corpus_fingerprint(),
            n_train=problem.corpus.sizes["train"],
            **needed,
        )
        named = {f"/factors/{name}": node for name, node in nodes[-1].items()}
        for number, earlier in enumerate(nodes[:-1]):
            named |= {f"/segments/{number}/{name}": node for name, node in earlier.items()}
        tree: xr.DataTree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), **named})
        return self.result(tree, problem, self)

    def needs(self, problem: Problem) -> dict[str, str]:
        """The checkpoints' fingerprint.

        Returns:
            Attributes of the fit.

        Raises:
            SettingError: when the problem has no checkpoints, or fewer than `segments`.
        """
        found = checkpoints_of(problem, "SOURCE")
        n = len(problem.checkpoints)
        if self.segments is not None and self.segments > n:
            raise SettingError(f"segments={self.segments} is more than the problem's {n} checkpoints; give at most {n}")
        return {"checkpoints_fingerprint": found}


def _groups(checkpoints: Sequence[Checkpoint], segments: int | None) -> list[list[Checkpoint]]:
    """The checkpoints of each segment."""
    n = len(checkpoints)
    return [[checkpoints[i] for i in part] for part in np.array_split(np.arange(n), segments or n)]


def _time(group: Sequence[Checkpoint]) -> float:
    """`eta K` of a segment."""
    return sum(float(checkpoint.learning_rate) * int(checkpoint.steps) for checkpoint in group)


def _damped(node: xr.Dataset, method: SOURCE) -> xr.Dataset:
    """A layer's factors with the number that is added to their eigenvalues; singular ones are none here."""
    mean = float(node["eigenvalues"].mean(dtype=np.float64)) if method.damping_kind == "relative" else 1.0
    return node.assign_attrs(damping=method.damping * mean)
