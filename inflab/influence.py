"""Influence: a fitted method, ready to be asked; labelled arrays out.

Opening a saved result needs no torch: the engine is imported when a question needs a pass.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import xarray as xr

from inflab import labels
from inflab.errors import SettingError, check_count
from inflab.indexed import Indexed
from inflab.select import top as select_top

if TYPE_CHECKING:
    from inflab.truth import Recipe

__all__ = ["Influence"]


class Influence(Indexed):
    """A fitted method. Made by a method's `fit`, or by `inflab.load`.

    Args:
        tree: the factors with their attrs, as `inflab.validate` checks them.
        problem: model, task and corpus; without it the arrays can be read but no question asked.
        method: the settings this was fitted with.

    Example:
        >>> ekfac = inflab.EKFAC(layers="*.mlp.*").fit(problem)
        >>> ekfac.score(queries, by="layer")["influence"].dims
        ('query', 'train', 'layer')
        >>> ekfac.attribute(queries, best)["influence"].dims
        ('query', 'rank', 'layer', 'token')
        >>> ekfac.self_influence()["influence"].dims
        ('train',)
        >>> ekfac.with_damping(0.01).score(queries).attrs["kind"]
        'scores'
    """

    #: What can be asked beside scores: by layer; by token, in its other views, token by token; an index.
    offers: ClassVar[frozenset[str]] = frozenset({"layers", "tokens", "output", "input", "pairs", "index"})

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
        """Influence of every training sequence on every query (GB23 eq. 5): one pass over the training data.

        Args:
            queries: a corpus over `query` (`inflab.encode(..., dim="query")`).
            by: "layer" keeps the layers apart; () sums them.
            rank: truncate each preconditioned query gradient to this rank, so that more queries fit the memory together
                (GB23 section 3.2.2); None is exact.
            truncation: "whitened" loses least of the scores, "plain" least of the gradients (the paper's).
            rescore: with `rank`, so many of the first sequences of each query are scored again exactly.
            candidates: `train (query, rank)`, from `inflab.filter_candidates`: only these pairs are scored, in one
                pass over those that some query names.
            train: other sequences to score instead of the training corpus.
            store: where finished shards are kept: a run that was broken off goes on when it is called again, and the
                result is opened from there, lazily. `inflab.load(path, partial=True)` opens what there is before.
            client: a `dask.distributed.Client` whose workers make the pass.
            memory: budget of each worker, such as "3GB"; queries that do not fit it together cost a pass a block.
            batch_size: examples in one pass; from the budget when None.
            shard_size: sequences done and kept together, with `store` or `client`; from the corpus when None.
            progress: whether to show progress bars.

        Returns:
            `influence (query, train[, layer])`, nat per unit weight; the coordinates of both corpora, those of the
            queries with the prefix `query_`; layers carry `block`, `kind` and `role`. With `rank`, `truncation_error
            (query)`; with `rescore`, `is_exact (query, train)`; with `candidates`, `is_candidate (query, train)`, and
            NaN where it is False; of methods that solve for all layers jointly (`CG`, `ASTRA`, `LiSSA`),
            `solver_residual (query)`: `|(G + lambda I) x - v| / |v|`, NaN where a store held the scores.
            With `store` or `client`, attrs `shards_computed` and `shards_resumed` say what was
            done now and what was there.

        Raises:
            CorpusError: when a corpus does not fit the problem.
            SettingError: when `by`, `rank` or `memory` is outside its domain.
            NumericsError: NaN or infinity; layer and batch are named.
            StoreError: the store holds something else, is being written by another process, or cannot be written.
        """
        from inflab.run.asking import scores
        from inflab.run.narrowing import among, check_rank, rescored

        by_layer = _by_layer(by)
        check_rank(rank, truncation, rescore)
        train = self._train(train)
        self.problem.check_corpus(queries, "query")
        is_candidate = None
        if candidates is not None:
            train, is_candidate = among(queries, train, candidates)
        run, curvatures = self._prepare(memory, batch_size, progress)
        settings: dict[str, Any] = {"rank": rank or 0, "truncation": truncation} if rank else {"rank": 0}
        found = scores(
            run, curvatures, queries, train, self._attrs("scores", **settings), by_layer=by_layer, rank=rank,
            truncation=truncation, store=store, client=client, shard_size=shard_size,
        )  # fmt: skip
        if is_candidate is not None:
            found = found.assign(influence=found["influence"].where(is_candidate), is_candidate=is_candidate)
        if rescore is not None:
            found = rescored(run, curvatures, queries, train, found, rescore, by_layer=by_layer)
        return found

    def self_influence(
        self,
        *,
        by: str | Iterable[str] = (),
        train: xr.Dataset | None = None,
        store: str | Path | None = None,
        client: Any = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        shard_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """Influence of each sequence on its own log-probability; large for memorised and mislabelled examples.

        Args:
            by: "layer" keeps the layers apart.
            train: other sequences instead of the training corpus.
            store: as for `score`.
            client: as for `score`.
            memory: budget of each worker, such as "3GB".
            batch_size: examples in one pass; from the budget when None.
            shard_size: as for `score`.
            progress: whether to show progress bars.

        Returns:
            `influence (train[, layer])`, nat per unit weight, never negative; with `solver_residual (train)` of
            methods that solve for all layers jointly, whose truncation may leave small negative values.
        """
        from inflab.run.asking import self_influence

        by_layer = _by_layer(by)
        train = self._train(train)
        run, curvatures = self._prepare(memory, batch_size, progress)
        attrs = self._attrs("self_influence")
        own = {"store": store, "client": client, "shard_size": shard_size}
        return self_influence(run, curvatures, train, attrs, by_layer=by_layer, **own)

    def attribute(
        self,
        queries: xr.Dataset,
        top: xr.Dataset,
        *,
        view: Literal["update", "output", "input"] = "update",
        pairs: bool = False,
        train: xr.Dataset | None = None,
        memory: int | str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """Where in the network and where in the text: influence of chosen pairs by layer and training token.

        Args:
            queries: a corpus over `query`; must hold every query of `top`.
            top: `train (query, rank)`, from `inflab.top`.
            view: "update" (GB23 eqs. 30, 31): what the weight update from each token position adds. The position
                reads the past and predicts the next token, so highlights sit one token early. "output" (eq. 36):
                what each predicted token gains, at its own place; summed over layers, in the model's dtype. "input"
                (eqs. 37, 38): how much the pair's influence grows per relative growth of the token's embedding, with
                the model held as it is; likewise summed over layers. What no predicted token comes after has 0.
            pairs: with "update", keep the query's tokens apart too: which query token meets which training token.
            train: the sequences `top` refers to, when not the training corpus.
            memory: budget such as "3GB".
            batch_size: examples in one pass; from the budget when None.
            progress: whether to show progress bars.

        Returns:
            `influence (query, rank, layer, token[, query_token])` with `token_text` and `is_text
            (query, rank, token)`; without `layer` for "output" and "input". Sums over layers and tokens are the
            scores, but of "input", which are slopes. Pairs that `top` does not rank are NaN.

        Raises:
            CorpusError: when `top` names queries or sequences that are not there, or the corpus has no tokens.
            ModelError: when "output" or "input" meets weights that are offloaded.
            SettingError: when `view` is unknown, or "input" and the model has no `get_input_embeddings()`; or when
                `pairs` is asked of another view than "update", or of a method that solves for all layers jointly.
        """
        from inflab.run.attributing import attributed, check_view

        check_view(view, pairs)
        if pairs:
            self._check_diagonal("pairs=True")
        train = self._train(train)
        self.problem.check_corpus(queries, "query")
        labels.check_tokens(train)
        chosen = labels.positions(queries, train, top)
        run, curvatures = self._prepare(memory, batch_size, progress)
        attrs = self._attrs("tokens", view=view)
        return attributed(run, curvatures, queries, train, top, *chosen, attrs, view=view, pairs=pairs)

    def trust(
        self,
        queries: xr.Dataset,
        *,
        k: int = 10,
        seeds: int = 3,
        splits: int = 2,
        recipe: Recipe | None = None,
        trainings: int = 3,
        lexical: bool = True,
        level: float = 0.95,
        seed: int = 0,
        memory: int | str | None = None,
        batch_size: int | None = None,
        progress: bool = True,
    ) -> xr.Dataset:
        """How far each query's top list can be trusted: arrays, and a plain sentence a query; chart: `plot.trust`.

        The method is fitted again on other pseudo-labels, and on both halves of random splits of the data: the
        intervals are the wider of Student's over label seeds and of half-sample replication (`inflab.trust.fits`). In
        words, a list is "stable" when the other fits keep at least .8 of what lies beyond chance (which keeps its
        length / n_train), "partly stable" from .5, else "shaky"; its size is "uncertain" when fewer than half of the
        intervals lie above 0; a removal is not confirmed when its measured effect has the other sign, or lies within
        2 standard errors of 0. Fits that change no score (label seeds of `Identity`, or of an empirical Fisher) say
        nothing, and are reported so.

        Costs `seeds - 1` fits on the whole data and `2 * splits` on halves, each with a pass that scores all queries;
        with a recipe `(queries + 1) * trainings` trainings.

        Args:
            queries: a corpus over `query`.
            k: length of the lists, most positive first.
            seeds: fits with different pseudo-labels, this one included.
            splits: random splits of the training data in halves; an interval by few is wide.
            recipe: how the model was trained: each query's list is left out together, and the change measured.
            trainings: seeds of each retraining.
            lexical: whether to compare with BM25 (text corpora only).
            level: of the intervals.
            seed: of splits, further label seeds and trainings.
            memory: budget such as "3GB".
            batch_size: examples in one pass; from the budget when None.
            progress: whether to show progress bars.

        Returns:
            `influence (fit, query, rank)` of the lists, the given fit first, with its interval `low`, `high` and
            standard deviations `label_spread`, `data_spread` `(query, rank)`; `effect`, `effect_low`, `effect_high`
            (nat); `overlap (fit, query)` and `rank_correlation`, their means `stability (query)` and `agreement`;
            `lexical_overlap (query)`, `lexical_correlation`; `predicted (query)` and `predicted_percent` of leaving the
            list out, with a recipe `measured`, `measured_se`, `measured_percent`; `sentence (query)`.

        Raises:
            CorpusError: when the queries do not fit the problem.
            SettingError: when a setting is outside its domain, or the recipe has another task.
            StoreError: when this was loaded without its problem.
        """
        from inflab.trust import trust

        return trust(
            self, queries, k=k, seeds=seeds, splits=splits, recipe=recipe, trainings=trainings, lexical=lexical,
            level=level, seed=seed, memory=memory, batch_size=batch_size, progress=progress,
        )  # fmt: skip

    def explain(
        self, queries: xr.Dataset, k: int = 10, *, by: str | Iterable[str] = (), progress: bool = True
    ) -> xr.DataTree:
        """Everything the Explorer shows, as labelled arrays that can be saved and opened without the model.

        Args:
            queries: a corpus over `query`.
            k: length of the lists of most positive and most negative sequences.
            by: "layer" keeps the layers apart in `scores`, so that a reader can rank by some of them.
            progress: whether to show progress bars.

        Returns:
            Children `scores`, `top`, `bottom`, `top_tokens`, `bottom_tokens`; no tokens of a similarity (`BM25`,
            `Embedding`), which has no place in a text.

        Raises:
            SettingError: when `k` or `by` is outside its domain.
        """
        train = self._train(None)
        check_count("k", k)
        if k > train.sizes["train"]:
            raise SettingError(f"k={k} must lie between 1 and the number of training sequences, {train.sizes['train']}")
        if "tokens" in self.offers:
            labels.check_tokens(train)
        scores = self.score(queries, by=by, progress=progress)
        lists = {"top": select_top(scores, k, sign="positive"), "bottom": select_top(scores, k, sign="negative")}
        tokens: dict[str, xr.Dataset] = {}
        if "tokens" in self.offers:  # both lists together: a query's gradient is computed, or solved for, once
            found = self.attribute(queries, labels.joined([*lists.values()]), progress=progress)
            parts = labels.parted(found, [*lists.values()])
            tokens = {f"{name}_tokens": part for name, part in zip(lists, parts, strict=True)}
        root = xr.Dataset(attrs=self._attrs("explanation"))
        tree: xr.DataTree = xr.DataTree.from_dict({"/": root, "scores": scores, **lists, **tokens})
        return tree


def _by_layer(by: str | Iterable[str]) -> bool:
    wanted = {by} if isinstance(by, str) else set(by)
    if not wanted <= {"layer"}:
        raise SettingError(f"by={sorted(wanted)} is not known; use by='layer' or by=()")
    return bool(wanted)
