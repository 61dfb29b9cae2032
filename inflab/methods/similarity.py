"""What methods share that compare texts and look at no gradient: baselines behind the same interface."""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
import xarray as xr

from inflab import labels
from inflab import store as stores
from inflab.errors import SettingError, StoreError, check_count
from inflab.influence import Influence
from inflab.problem import Problem
from inflab.run.narrowing import among
from inflab.schema import root_attrs, variable_attrs

__all__ = ["Similarity", "SimilarityInfluence"]

_SIGN = "positive: the sequence resembles the query; whether training on it helps is not known"


class SimilarityInfluence(Influence):
    """Similarities in the place of influence; see `inflab.Influence`.

    Without gradients, only `score` can be asked, and `explain`, whose lists have no tokens.
    """

    offers = frozenset()

    def score(
        self,
        queries: xr.Dataset,
        *,
        by: str | Iterable[str] = (),
        rank: int | None = None,
        truncation: Literal["whitened", "plain"] = "whitened",
        rescore: int | None = None,
        candidates: xr.Dataset | None = None,
        train: xr.Dataset | None = None,
        store: str | Path | None = None,
        client: Any = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        shard_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """Similarity of every training sequence and every query; the whole text counts, prompt and completion.

        Args:
            queries: a corpus over `query`.
            by: only (): there are no layers.
            rank: only None: there are no gradients to truncate.
            truncation: of no effect, like `shard_size`.
            rescore: only None.
            candidates: `train (query, rank)`: other pairs are NaN.
            train: other sequences instead of the training corpus.
            store: only None: write the result with `inflab.save`.
            client: only None.
            memory: budget such as "3GB".
            batch_size: examples in one pass, where there is one.
            shard_size: of no effect.
            progress: whether to show progress bars.

        Returns:
            `influence (query, train)` float32, "1": a similarity, not nats.

        Raises:
            SettingError: when a setting is given that needs gradients, a store or workers.
        """
        given = {"by": by, "rank": rank, "rescore": rescore, "store": store, "client": client}
        for name, value in given.items():
            if value not in (None, "", ()):
                raise SettingError(f"{name}={value!r} is not for {self.attrs['method']}, {_NO_GRADIENTS}; leave it out")
        train = self._train(train)
        self.problem.check_corpus(queries, "query")
        is_candidate = None
        if candidates is not None:
            train, is_candidate = among(queries, train, candidates)
        method: Similarity = self.method
        value_qt = method.compare(
            self.problem, self._tree, queries, train, memory=memory, batch_size=batch_size, progress=progress
        )
        described = variable_attrs(*method.described, sign=_SIGN)
        found = xr.Dataset(
            {"influence": (("query", "train"), value_qt.astype(np.float32), described)},
            coords={**labels.train_coords(train), **labels.query_coords(queries)},
            attrs=self._attrs("scores"),
        )
        if is_candidate is not None:
            found = found.assign(influence=found["influence"].where(is_candidate), is_candidate=is_candidate)
        return found

    def self_influence(self, **settings: Any) -> NoReturn:
        """Refused: what a text does to itself is not how much it resembles itself.

        Raises:
            SettingError: always.
        """
        self._refuse("self_influence")

    def attribute(self, *args: Any, **settings: Any) -> NoReturn:
        """Refused: a similarity has no place in the network.

        Raises:
            SettingError: always.
        """
        self._refuse("attribute")

    def plan(self, *args: Any, **settings: Any) -> NoReturn:
        """Refused: there is nothing to plan.

        Raises:
            SettingError: always.
        """
        self._refuse("plan")

    def with_damping(self, *args: Any, **settings: Any) -> NoReturn:
        """Refused: there is no curvature.

        Raises:
            SettingError: always.
        """
        self._refuse("with_damping")

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in json.loads(self.attrs["settings"]).items())
        attached = "" if self._problem is not None else ", no problem attached"
        return f"Influence({self.attrs['method']}({settings}), n_train={self.attrs['n_train']}{attached})"

    def _check_diagonal(self, what: str) -> None:
        self._refuse(what)

    def _refuse(self, what: str) -> NoReturn:
        raise SettingError(f"{what} is not for {self.attrs['method']}, {_NO_GRADIENTS}; use a method that has them")


_NO_GRADIENTS = "which has no gradients"


@dataclass(frozen=True, kw_only=True)
class Similarity(ABC):
    """A frozen method that compares texts, with the `fit` of all methods."""

    result: ClassVar[type[Influence]] = SimilarityInfluence

    #: Long name, units and description of a score.
    described: ClassVar[tuple[str, str, str]]

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
        """Look at the training corpus.

        Args:
            problem: model, task and corpus.
            store: where the fit is written; one that is there from the same settings, model and corpus is opened.
            client: of no effect, like `shard_size`: this process does the work.
            memory: budget such as "3GB".
            batch_size: examples in one pass, where there is one.
            shard_size: of no effect.
            seed: recorded; nothing here is random.
            progress: whether to show progress bars.

        Returns:
            An `Influence` that can be asked for scores.

        Raises:
            CorpusError: the corpus has not what is compared.
            SettingError: a setting outside its domain.
            StoreError: the store holds something else, or cannot be written.
        """
        if not isinstance(problem, Problem):
            raise SettingError(f"problem is a {type(problem).__name__}; expected an inflab.Problem")
        check_count("seed", seed, least=0)
        attrs = root_attrs(
            "factors",
            method=type(self).__name__,
            settings=self.settings(),
            seed=seed,
            model_fingerprint=problem.model_fingerprint(),
            corpus_fingerprint=problem.corpus_fingerprint(),
            n_train=problem.corpus.sizes["train"],
            units=self.described[1],
        )
        if store is not None and Path(store).expanduser().exists():
            tree = stores.open_tree(store)
            for name in ("method", "settings", "model_fingerprint", "corpus_fingerprint"):
                if tree.attrs.get(name) != attrs[name]:
                    raise StoreError(
                        f"store={str(store)!r} has {name} {tree.attrs.get(name)!r}, this fit {attrs[name]!r}; "
                        "choose another path"
                    )
            return self.result(tree, problem, self)
        nodes = self.learned(problem, memory=memory, batch_size=batch_size, progress=progress)
        tree = xr.DataTree.from_dict({"/": xr.Dataset(attrs=attrs), "/factors": xr.Dataset(), **nodes})
        if store is not None:
            stores.save(tree, store)
        return self.result(tree, problem, self)

    def settings(self) -> str:
        """The settings as JSON text."""
        return json.dumps({field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @abstractmethod
    def learned(
        self, problem: Problem, *, memory: int | str | None, batch_size: int | None, progress: bool
    ) -> dict[str, xr.Dataset]:
        """What is kept of the training corpus, as nodes of the tree; refuses a corpus that cannot be compared."""

    @abstractmethod
    def compare(
        self,
        problem: Problem,
        held: xr.DataTree,
        queries: xr.Dataset,
        train: xr.Dataset,
        *,
        memory: int | str | None,
        batch_size: int | None,
        progress: bool,
    ) -> np.ndarray:
        """Similarities `(query, train)`."""
