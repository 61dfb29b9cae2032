"""Workers of a cluster give the numbers that one process gives, whoever does which shard."""

from __future__ import annotations

import copyreg
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import inflab
from inflab import EKFAC, KFAC, Diagonal, Identity, Influence
from inflab.capture import Capture
from inflab.errors import MissingDependencyError, NumericsError, SettingError, StoreError
from inflab.layer import select_layers
from inflab.products import as_right_side
from inflab.run import boxes, cluster, fitting, ledger
from inflab.run.fit import Basis
from inflab.run.local import Pass
from tests import tiny

distributed = pytest.importorskip("distributed", reason="needs dask.distributed")
serialize, deserialize = distributed.protocol.serialize, distributed.protocol.deserialize

SHARD = 2
METHODS = {"EKFAC": EKFAC(), "blocks": EKFAC(blocks=2), "KFAC": KFAC(), "Diagonal": Diagonal(), "Identity": Identity()}


def fit(problem: Any, method: Any = None, **more: Any) -> Influence:
    found: Influence = (method or EKFAC()).fit(problem, progress=False, shard_size=SHARD, **more)
    return found


def same(a: Influence, b: Influence) -> None:
    for name, node in a.factors.children.items():
        assert node.to_dataset().identical(b.factors[name].to_dataset())


@pytest.fixture
def here(tmp_path: Path) -> Influence:
    return fit(tiny.table_problem(), store=tmp_path / "here")


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("with_store", [True, False], ids=["store", "gathered"])
def test_a_fit_is_the_same_bits(method: Any, with_store: bool, client: Any, tmp_path: Path) -> None:
    expected = fit(tiny.table_problem(), method, store=tmp_path / "here")
    problem = tiny.table_problem()
    with tiny.untouched(problem.model):
        found = fit(problem, method, client=client, **({"store": tmp_path / "there"} if with_store else {}))
    same(found, expected)
    assert found.attrs["shards_computed"] == expected.attrs["shards_computed"]


@pytest.mark.parametrize("with_store", [True, False], ids=["store", "gathered"])
def test_scores_are_the_same_bits(with_store: bool, client: Any, here: Influence, tmp_path: Path) -> None:
    queries = tiny.table(3, "query", 1)
    store: Any = {"store": tmp_path / "there"} if with_store else {}
    expected = here.score(queries, by="layer", store=tmp_path / "s", shard_size=SHARD, progress=False)
    found = here.score(queries, by="layer", client=client, shard_size=SHARD, progress=False, **store)
    assert found.drop_attrs().identical(expected.drop_attrs())
    assert (found.attrs["shards_computed"], found.attrs["shards_resumed"]) == (6, 0)
    plain = here.score(queries, by="layer", progress=False)
    tiny.agree(found["influence"], plain["influence"], 1e-5)
    if with_store:
        itself = here.self_influence(store=tmp_path / "itself", client=client, shard_size=SHARD, progress=False)
        tiny.agree(itself["influence"], here.self_influence(progress=False)["influence"], 1e-5)


def test_a_language_model_on_other_sequences(client: Any) -> None:
    fitted = tiny.fitted()
    train = tiny.corpus(tiny.TEXTS[::-1])
    found = fitted.score(tiny.queries(), train=train, client=client, shard_size=SHARD, progress=False)
    expected = fitted.score(tiny.queries(), train=train, progress=False)
    tiny.agree(found["influence"], expected["influence"], 1e-5)


def test_a_store_that_workers_do_not_see_is_written_here(
    client: Any, here: Influence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = tiny.table(3, "query", 1)
    expected = here.score(queries, store=tmp_path / "s", shard_size=SHARD, progress=False)
    monkeypatch.setattr(cluster, "_sees", _blind)
    found = here.score(queries, store=tmp_path / "there", client=client, shard_size=SHARD, progress=False)
    assert np.array_equal(found["influence"], expected["influence"])
    same(fit(here.problem, store=tmp_path / "fit", client=client), here)


def _blind(ledger: Any) -> bool:
    return False


_blind.__module__ = "__main__"  # workers get it by value


def test_another_disk_is_told_by_its_token(tmp_path: Path) -> None:
    with ledger.opened(tmp_path / "s", {"what": "fit"}, {}, 0) as found:
        assert found.is_here()
        assert not ledger.Ledger(found.path, token="another").is_here()
        assert not ledger.Ledger(tmp_path / "t", token=found.token).is_here()


def test_work_on_a_cluster_is_gone_on_with_here(client: Any, here: Influence, tmp_path: Path) -> None:
    queries = tiny.table(3, "query", 1)
    more: Any = {"store": tmp_path / "s", "shard_size": SHARD, "progress": False}
    expected = here.score(queries, **{**more, "store": tmp_path / "whole"})
    first = here.score(queries, client=client, **more)
    assert here.score(queries, **more).attrs["shards_resumed"] == 6
    assert first.drop_attrs().identical(expected.drop_attrs())


def test_errors_of_workers_are_inflabs_own(client: Any, tmp_path: Path) -> None:
    model = tiny.mlp()
    with torch.no_grad():
        model[2].weight[0] = 3e38  # finite, but its products are not
    problem = tiny.table_problem(model)
    for more in ({}, {"store": tmp_path / "s"}):
        with tiny.untouched(model), pytest.raises(NumericsError, match="NaN or infinit"):
            fit(problem, client=client, **more)
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("client", [3, "tcp://127.0.0.1:8786"])
def test_what_is_no_client_is_refused(client: Any) -> None:
    with pytest.raises(SettingError, match="is not a dask.distributed.Client; give Client"):
        fit(tiny.table_problem(), client=client)


def test_without_dask_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'inflab\[distributed\]'"):
        fit(tiny.table_problem(), client=object())


def test_the_store_of_another_run_is_refused(client: Any, here: Influence, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was begun with seed"):
        fit(tiny.table_problem(), store=tmp_path / "here", client=client, seed=1)


def test_a_problem_can_be_handed_on_while_a_pass_has_hooks_on_its_model() -> None:
    problem = tiny.table_problem()
    run = Pass(problem, select_layers(problem.model), progress=False)
    sent = boxes.boxed(run)
    mine = boxes.unboxed(sent)
    assert mine.problem is boxes.unboxed(sent).problem is not problem, "opened once"
    with Capture(mine.problem, mine.layers):
        header, frames = serialize(sent, on_error="raise")
    other = boxes.unboxed(deserialize(header, frames))
    assert tiny.state(other.problem.model)["hooks"] == tiny.state(problem.model)["hooks"]
    assert other.problem.model_fingerprint() == problem.model_fingerprint()
    assert other.problem.corpus_fingerprint() == problem.corpus_fingerprint()


def test_tensors_arrive_as_they_were() -> None:
    shared = as_right_side(torch.randn(3, 5))
    sent = {"a": [Basis(shared, torch.arange(5.0), None, torch.ones(2, dtype=torch.float64), 7), (shared, "text", 3)]}
    found = boxes.unboxed(deserialize(*serialize(boxes.boxed(sent), on_error="raise")))
    basis, (again, *rest) = found["a"]
    assert torch.equal(basis.activation, shared)
    assert basis.activation.stride() == shared.stride() != (5, 1)
    assert basis.activation is again, "one tensor in two places stays one"
    assert (basis.gradient, basis.tokens, rest) == (None, 7, ["text", 3])
    assert basis.gradient_eigenvalues.dtype == torch.float64
    assert sent["a"][0].activation is shared, "what is sent is left alone"


class _Unsendable:
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def test_what_cannot_be_sent_is_refused(client: Any) -> None:
    problem = tiny.table_problem()
    problem.model.lock = _Unsendable()
    with pytest.raises(SettingError, match=r"cannot send Problem\(.*not to be pickled.*copyreg"):
        fit(problem, client=client)


def test_a_worker_keeps_its_threads(client: Any) -> None:
    before = client.run(torch.get_num_threads)
    fit(tiny.table_problem(), client=client)
    assert client.run(torch.get_num_threads) == before


def test_nothing_stays_on_the_workers(client: Any) -> None:
    fit(tiny.table_problem(), client=client)
    for _ in range(500):
        if not client.run_on_scheduler(_tasks):
            break
    assert client.run_on_scheduler(_tasks) == 0


def test_sums_are_freed_when_they_are_added(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    result = cluster.Cluster._result

    def watched(self: Any, future: Any) -> Any:
        if future.key.startswith("add"):  # the root of a tree
            distributed.wait(future)
            for _ in range(500):
                if client.run_on_scheduler(_sums) == 1:
                    break
            assert client.run_on_scheduler(_sums) == 1, "only the total is left"
        return result(self, future)

    monkeypatch.setattr(cluster.Cluster, "_result", watched)
    fit(tiny.table_problem(), client=client)


def _sums(dask_scheduler: Any) -> int:
    held = (t for t in dask_scheduler.tasks.values() if t.state == "memory")
    return sum(t.key.startswith(("_sums", "add")) for t in held)


_sums.__module__ = "__main__"


def _tasks(dask_scheduler: Any) -> int:
    return len(dask_scheduler.tasks)


_tasks.__module__ = "__main__"


def test_workers_can_load_the_model_themselves(client: Any, tmp_path: Path) -> None:
    model = tiny.gpt2()
    model.save_pretrained(tmp_path / "model")
    problem = tiny.language_problem(model)
    expected = fit(problem, store=tmp_path / "here")

    def load(folder: str = str(tmp_path)) -> Any:
        import transformers

        (Path(folder) / f"loaded-{os.getpid()}").touch()
        return transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/model").eval()

    kind = type(model)
    copyreg.pickle(kind, lambda model: (load, ()))
    try:
        found = fit(problem, client=client)
    finally:
        copyreg.dispatch_table.pop(kind)
    assert len(list(tmp_path.glob("loaded-*"))) == 2
    same(found, expected)


def test_a_corpus_on_disk_stays_there(client: Any, tmp_path: Path) -> None:
    inflab.save(tiny.table(2000), tmp_path / "train")
    corpus = inflab.load(tmp_path / "train").chunk({"train": 100})
    problem = tiny.table_problem(train=corpus)
    problem.corpus_fingerprint()
    inputs = corpus["input"].nbytes
    assert sum(memoryview(frame).nbytes for frame in serialize(boxes.boxed(problem))[1]) - 2000 * 8 < inputs
    more: Any = {"shard_size": 500, "progress": False}
    found = EKFAC().fit(problem, client=client, **more)
    same(found, EKFAC().fit(tiny.table_problem(train=tiny.table(2000)), store=tmp_path / "here", **more))


def test_threads_of_a_worker_take_turns_and_torch_has_them_all(
    monkeypatch: pytest.MonkeyPatch, here: Influence
) -> None:
    inside: list[int] = []
    threads = set()
    sums = fitting.covariance_sums

    def watched(*args: Any, **more: Any) -> Any:
        inside.append(1)
        threads.add(torch.get_num_threads())
        assert sum(inside) == 1, "two passes at once on one model"
        found = sums(*args, **more)
        inside.pop()
        return found

    monkeypatch.setattr(fitting, "covariance_sums", watched)
    settings: Any = {"processes": False, "n_workers": 1, "threads_per_worker": 3, "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(**settings) as one, distributed.Client(one) as client:
        same(fit(tiny.table_problem(), client=client), here)
    assert threads == {3}
    assert torch.get_num_threads() == 1
