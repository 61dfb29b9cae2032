"""Bad input gets a named error that says the mend, before the long work, with nothing written and the model untouched.

One row a case, each through the whole job: make a problem, fit, ask, save.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from torch import Tensor, nn

import inflab
from inflab import EKFAC, KFAC, CausalLM, Diagonal, Identity, Problem
from inflab.capture import Capture
from inflab.errors import (
    CorpusError,
    InflabError,
    LayerError,
    ModelError,
    NumericsError,
    SchemaError,
    SettingError,
    StoreError,
)
from tests import tiny

Change = Callable[[Any], Any]


def job(
    model: Any,
    *,
    method: Callable[[], Any] = EKFAC,
    train: Change = lambda corpus: corpus,
    asked: Change = lambda queries: queries,
    between: Change = lambda fitted: fitted,
    task: Any = None,
    **settings: Any,
) -> None:
    """The main job, with one thing wrong."""
    problem = Problem(model, task or CausalLM(), train(tiny.corpus(ids=list("abcdef"))))
    fitted = between(method().fit(problem, progress=False, **settings))
    queries = asked(tiny.queries(ids=["q", "r"]))
    inflab.save(fitted.score(queries, progress=False), "scores")
    inflab.save(fitted.explain(queries, 2, progress=False), "explanation")
    fitted.save("fit")


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was differentiated so far, one entry a batch."""
    seen: list[str] = []
    run = Capture.run

    def count(self: Capture, arrays: Any, quantity: Any, *rest: Any, **more: Any) -> Tensor:
        seen.append(quantity)
        return run(self, arrays, quantity, *rest, **more)

    monkeypatch.setattr(Capture, "run", count)
    return seen


def check(
    error: type[InflabError], says: str, n_passes: int, passes: list[str], folder: Path, model: Any, **wrong: Any
) -> None:
    """Raised by name, after at most so many batches, with nothing written and the model as it was."""
    with tiny.untouched(model), pytest.raises(InflabError, match=says) as caught:
        job(model, **wrong)
    assert type(caught.value) is error
    assert len(passes) <= n_passes, passes
    assert list(folder.iterdir()) == []


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_job_succeeds_when_nothing_is_wrong(folder: Path, passes: list[str]) -> None:
    model = tiny.gpt2()
    with tiny.untouched(model):
        job(model)
    assert sorted(path.name for path in folder.iterdir()) == ["explanation", "fit", "scores"]
    assert passes[:2] == ["pseudo_loss", "measurement"]  # the fit keeps its tokens and passes once


# --- the corpus: known before any pass --------------------------------------------------------------------------


def _cell(name: str, value: Any, row: int = 2, columns: Any = slice(None)) -> Change:
    """The corpus with one row of one variable changed."""

    def change(corpus: xr.Dataset) -> xr.Dataset:
        found = corpus.copy(deep=True)
        found[name].values[row, columns] = value
        return found

    return change


def _mixed(corpus: xr.Dataset) -> xr.Dataset:
    return corpus.assign_coords(train=np.array([1, "a", 1, 2, 3, 4], dtype=object))


CORPUS: dict[str, tuple[Change, str]] = {
    "empty": (lambda c: c.isel(train=[]), "corpus is empty: train has length 0; give at least one example"),
    "ids too large": (_cell("token_id", 320, columns=1), "token ids outside the model's vocabulary of 320; encode"),
    "ids below zero": (_cell("token_id", -1, columns=1), "train c: token ids outside the model's vocabulary of 320"),
    "ids that are not whole": (lambda c: c.assign(token_id=c["token_id"] * 1.0), "token_id has dtype float64; ids are"),
    "a row of padding": (_cell("is_text", False), r"train c: no token of text \(all masked\); remove these rows"),
    "only padding": (lambda c: c.assign(is_text=c["is_text"] & False), "train a, b, c, d, e and 1 more: no token"),
    "nothing to predict": (_cell("is_target", False), "train c: no target token; give a completion, or"),
    "a target in padding": (_cell("is_target", True, row=4), "train e: is_target where is_text is False; mask"),
    "the first token as target": (_cell("is_target", True, columns=0), "train c: the first token as a target; nothing"),
    "padding inside": (
        lambda c: _cell("is_target", False, columns=3)(_cell("is_text", False, columns=3)(c)),
        "train c: padding inside the text; pad on the left or on the right",
    ),
    "masks of numbers": (lambda c: c.assign(is_text=c["is_text"] * 1), r"is_text has dtype int64; a mask is boolean"),
    "targets of numbers": (lambda c: c.assign(is_target=c["is_target"] * 1), "is_target has dtype int64; a mask is"),
    "too long": (lambda c: tiny.corpus([tiny.TEXTS[0] * 9], ids=["z"]), "train z: more than the model's 64 pos"),
    "double ids": (lambda c: c.assign_coords(train=list("abacdc")), "duplicate ids in train: a, c; ids must be unique"),
    "double ids of mixed types": (_mixed, "duplicate ids in train: 1; ids must be unique"),
    "no ids": (lambda c: c.drop_vars("train"), r"no coordinate 'train'; assign unique ids, for instance range\(n\)"),
    "no masks": (lambda c: c.drop_vars("is_text"), r"CausalLM needs the variables \['is_text'\]; see inflab.encode"),
    "queries": (lambda c: tiny.queries(), "corpus runs over 'query'; make it with dim='train'"),
    "a table": (lambda c: tiny.table(), "CausalLM needs the variables .*; see inflab.encode"),
    "a list of texts": (lambda c: list(tiny.TEXTS), "type str are not understood; for texts use inflab.encode"),
    "None": (lambda c: None, "NoneType is neither an xarray Dataset nor a map-style dataset"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "says"), CORPUS.values(), ids=CORPUS)
def test_a_bad_corpus(change: Change, says: str, folder: Path, passes: list[str]) -> None:
    check(CorpusError, says, 0, passes, folder, tiny.gpt2(), train=change)


# --- queries: known before they are asked -----------------------------------------------------------------------

QUERIES: dict[str, tuple[Change, str]] = {
    "none": (lambda q: q.isel(query=[]), "corpus is empty: query has length 0"),
    "no completion": (
        lambda q: tiny.queries(completions=["", " x"]),
        "completions: empty at positions 0; a query",
    ),
    "nothing to measure": (_cell("is_target", False, 1), "query r: no target token; give a completion"),
    "a row of padding": (_cell("is_text", False, 1), "query r: no token of text"),
    "ids too large": (_cell("token_id", 999, 1, -1), "query r: token ids outside the model's vocabulary of 320"),
    "too long": (
        lambda q: tiny.queries([tiny.TEXTS[0] * 9], ["!"], ids=["z"]),
        "query z: more than the model's 64 positions",
    ),
    "double ids": (lambda q: q.assign_coords(query=["q", "q"]), "duplicate ids in query: q"),
    "texts": (lambda q: list(tiny.PROMPTS), "query corpus is a list; make an xr.Dataset with inflab.encode"),
    "a training corpus": (lambda q: tiny.corpus(), "corpus runs over 'train'; make it with dim='query'"),
}


@pytest.mark.parametrize(("change", "says"), QUERIES.values(), ids=QUERIES)
def test_a_bad_query(change: Change, says: str, folder: Path, passes: list[str]) -> None:
    model = tiny.gpt2()
    last = _cell("is_text", True, 1)  # the shorter query fills its row, so that its last column can be spoilt

    def asked(queries: xr.Dataset) -> Any:
        return change(last(queries) if says.startswith("query r: token ids") else queries)

    check(CorpusError, says, 0, passes, folder, model, asked=asked, method=Identity)


# --- the model --------------------------------------------------------------------------------------------------


def _weight(name: str, value: float) -> Any:
    model = tiny.gpt2()
    model.get_parameter(name).data.view(-1)[3] = value
    return model


MODELS: dict[str, tuple[Callable[[], Any], type[InflabError], str, int]] = {
    "in train() mode with dropout": (
        lambda: tiny.gpt2().train(), ModelError,
        r"in train\(\) mode and 'transformer.drop' acts differently there .*; call model.eval\(\) first", 0,
    ),
    "one block in train() mode": (
        lambda: _block_in_training(), ModelError, r"'transformer.h.1.attn.attn_dropout'.*model.eval\(\)", 0
    ),
    "a weight of NaN": (
        lambda: _weight("transformer.h.0.attn.c_attn.weight", np.nan), NumericsError,
        "weights of 'transformer.h.0.attn.c_attn.weight' hold NaN or infinity; load a sound checkpoint", 0,
    ),
    "a weight of infinity": (
        lambda: _weight("transformer.ln_f.bias", np.inf), NumericsError, "weights of 'transformer.ln_f.bias' hold", 0
    ),
    "activations that overflow": (
        lambda: _overflowing("transformer.h.0.mlp.c_fc"), NumericsError,
        "NaN or infinity in .* 'transformer.h.0.mlp.c_proj' in the batch of 'a' to 'f'", 1,
    ),
    "a loss that overflows": (
        lambda: _overflowing("transformer.ln_f"), NumericsError, "loss is NaN or infinite in the batch of 'a' to 'f'", 1
    ),
    "no weights in memory": (
        lambda: tiny.gpt2().to("meta"), ModelError, "every weight of the model is on the meta device; load", 0
    ),
    "not a model": (lambda: tiny.gpt2().state_dict(), SettingError, "model is a OrderedDict; expected a torch.nn", 0),
    "without MLP": (lambda: _without_blocks(), LayerError, "layers='auto' found no MLP matrix in GPT2.*; choose", 0),
    "a tuple as output": (lambda: Tuple(), ModelError, "Tuple returned a tuple; return a tensor or an object", 1),
    "too small a vocabulary": (
        lambda: Small(), CorpusError, r"Small failed with index out of range in self: the largest token id is \d+", 1
    ),
}  # fmt: skip


def _block_in_training() -> Any:
    model = tiny.gpt2()
    model.transformer.h[1].train()
    return model


def _overflowing(name: str) -> Any:
    model = tiny.gpt2()
    module = model.get_submodule(name)
    module.weight.data *= 1e38
    module.bias.data += 3e38
    return model


def _without_blocks() -> Any:
    model = tiny.gpt2()
    model.transformer.h = nn.ModuleList()
    return model


class Small(nn.Module):
    """A language model of its own kind, whose vocabulary no config tells."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(100, 4), nn.Linear(4, 100)

    def forward(self, token_id: Tensor) -> Any:
        return self.head(self.embedding(token_id))


class Tuple(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(320, 4), nn.Linear(4, 320)

    def forward(self, token_id: Tensor) -> Any:
        return self.head(self.embedding(token_id)), None


@pytest.mark.parametrize(("make", "error", "says", "n_passes"), MODELS.values(), ids=MODELS)
def test_a_bad_model(
    make: Callable[[], Any], error: Any, says: str, n_passes: int, folder: Path, passes: list[str]
) -> None:
    model = make()
    if isinstance(model, nn.Module) and not any(p.is_meta for p in model.parameters()):
        check(error, says, n_passes, passes, folder, model)
    else:
        with pytest.raises(error, match=says):
            job(model)
        assert passes == []


def test_a_model_that_goes_bad_after_the_fit(folder: Path, passes: list[str]) -> None:
    for spoil, error, says in (
        (lambda model: model.train(), ModelError, r"call model.eval\(\) first"),
        (lambda model: model.transformer.ln_f.weight.data.fill_(np.nan), NumericsError, "'transformer.ln_f.weight'"),
    ):
        model = tiny.gpt2()

        def between(fitted: Any, model: Any = model, spoil: Any = spoil) -> Any:
            spoil(model)
            passes.clear()
            return fitted

        with pytest.raises(error, match=says):
            job(model, between=between)
        assert passes == []
        assert list(folder.iterdir()) == []


# --- layers and settings ----------------------------------------------------------------------------------------

NEAR = "near names: .*transformer.h.0.mlp.c_fc"
METHODS: dict[str, tuple[Callable[[], Any], type[InflabError], str]] = {
    "no layer matched": (lambda: EKFAC(layers="*.mlp.fc_in"), LayerError, f"'.*.fc_in' matches no .*{NEAR}"),
    "one of several": (lambda: KFAC(layers=["*.c_fc", "head"]), LayerError, "layers='head' matches no .*; near"),
    "no predicate matched": (lambda: Diagonal(layers=lambda *_: False), LayerError, "layers=<lambda> matches no"),
    "an empty list": (lambda: Identity(layers=[]), LayerError, r"layers=\[\] matches no supported layer; there are: "),
    "a tied head": (lambda: EKFAC(layers="lm_head"), LayerError, "'lm_head' cannot be covered: shares its weight with"),
    "a norm": (lambda: EKFAC(layers="*.ln_f"), LayerError, "layers='.*.ln_f' matches no supported layer"),
    "layers of another type": (lambda: EKFAC(layers=3), LayerError, "layers=3 is not 'auto', a glob, a list"),
    "negative damping": (lambda: EKFAC(damping=-0.1), SettingError, "damping=-0.1 must be a finite number, zero"),
    "damping of NaN": (lambda: KFAC(damping=np.nan), SettingError, "damping=nan must be a finite number"),
    "damping as text": (lambda: EKFAC(damping="0.1"), SettingError, "damping='0.1' must be a finite number"),
    "no damping at all": (lambda: EKFAC(damping=None), SettingError, "damping=None must be a finite number"),
    "another damping kind": (lambda: EKFAC(damping_kind="abs"), SettingError, "damping_kind='abs' is not one of"),
    "another Fisher": (lambda: EKFAC(fisher="exact"), SettingError, "fisher='exact' is not one of 'true', 'empirical'"),
    "no examples": (lambda: EKFAC(max_examples=0), SettingError, "max_examples=0 must be a whole number, at least 1"),
    "half an example": (lambda: EKFAC(max_examples=1.5), SettingError, "max_examples=1.5 must be a whole number"),
    "no block": (lambda: EKFAC(blocks=0), SettingError, "blocks=0 must be a whole number, at least 1"),
    "half a block": (lambda: EKFAC(blocks=1.5), SettingError, "blocks=1.5 must be a whole number"),
    "an unknown dtype": (lambda: EKFAC(dtype="int8"), SettingError, "dtype='int8' is not one of float32, float64,"),
    "a dtype of torch": (lambda: EKFAC(dtype=torch.bfloat16), SettingError, "dtype=torch.bfloat16 is not one of"),
    "a wider dtype": (lambda: EKFAC(dtype="float64"), SettingError, "dtype='float64' is not narrower than the model's"),
}  # fmt: skip


@pytest.mark.parametrize(("method", "error", "says"), METHODS.values(), ids=METHODS)
def test_a_bad_method(method: Any, error: Any, says: str, folder: Path, passes: list[str]) -> None:
    check(error, says, 0, passes, folder, tiny.gpt2(), method=method)


FIT: dict[str, tuple[dict[str, Any], str]] = {
    "memory in words": (
        {"memory": "plenty"},
        "memory='plenty' is not a size; write '3GB', '500MB' or a number",
    ),
    "no memory": ({"memory": 0}, "memory=0 must be positive"),
    "memory of three bytes": ({"memory": 3}, "memory=3 means so many bytes"),
    "no batch": ({"batch_size": 0}, "batch_size=0 must be a whole number, at least 1"),
    "a seed in words": ({"seed": "lucky"}, "seed='lucky' must be a whole number"),
    "a seed below zero": ({"seed": -1}, "seed=-1 must be a whole number, at least 0"),
}


@pytest.mark.parametrize(("settings", "says"), FIT.values(), ids=FIT)
def test_a_bad_fit(settings: dict[str, Any], says: str, folder: Path, passes: list[str]) -> None:
    check(SettingError, says, 0, passes, folder, tiny.gpt2(), **settings)


def test_a_fit_of_something_else(folder: Path) -> None:
    with pytest.raises(SettingError, match="problem is a GPT2LMHeadModel; expected an inflab.Problem"):
        EKFAC().fit(tiny.gpt2())
    with pytest.raises(SettingError, match=re.escape("task is a type; expected an inflab.Task such as inflab.Causal")):
        Problem(tiny.gpt2(), CausalLM, tiny.corpus())


@pytest.mark.parametrize("kind", ["relative", "absolute"])
@pytest.mark.parametrize("damping", [0, 0.0, 1e-60])
def test_no_damping_on_a_singular_layer(damping: float, kind: Any, folder: Path, passes: list[str]) -> None:
    """Known after the fit only; a damping that float32 cannot add is none."""
    says = r"layer 'transformer.h.0.mlp.c_fc' is singular: .* adds nothing; use a positive damping"
    method = lambda: EKFAC(damping=damping, damping_kind=kind)  # noqa: E731
    check(NumericsError, says, 2, passes, folder, tiny.gpt2(), method=method)
    passes.clear()
    between = lambda fitted: fitted.with_damping(damping, kind)  # noqa: E731
    check(NumericsError, says, 2, passes, folder, tiny.gpt2(), between=between)


def test_no_damping_is_right_where_nothing_is_singular() -> None:
    problem = tiny.table_problem(train=tiny.table(200))
    found = tiny.scores(problem, tiny.table(2, "query"), Diagonal(damping=0))
    assert np.isfinite(found).all()


def test_a_layer_without_any_gradient_says_that_relative_damping_cannot_help(folder: Path, passes: list[str]) -> None:
    model = tiny.gpt2()
    model.transformer.h[0].mlp.c_proj.weight.data.zero_()
    says = "layer 'transformer.h.0.mlp.c_fc' is singular.*use a positive damping, absolute, or leave the layer out"
    check(NumericsError, says, 2, passes, folder, model)
    passes.clear()
    job(model, method=lambda: EKFAC(damping_kind="absolute"))


class Detached(CausalLM):
    """A task that cuts the graph before the loss."""

    def forward(self, *args: Any) -> Tensor:
        return super().forward(*args).detach()


def test_layers_whose_output_never_reaches_the_loss(folder: Path, passes: list[str]) -> None:
    says = "the output of 'transformer.h.0.mlp.c_fc' never reaches the pseudo_loss; leave it out with layers="
    check(LayerError, says, 1, passes, folder, tiny.gpt2(), task=Detached())


def test_a_layer_that_does_not_run(folder: Path, passes: list[str]) -> None:
    model = tiny.gpt2()
    model.transformer.h[0].spare_mlp = nn.ModuleDict({"mlp": nn.Linear(16, 16)})
    says = "'transformer.h.0.spare_mlp.mlp' did not run in the forward pass; leave it out with layers="
    check(LayerError, says, 1, passes, folder, model)


# --- the store --------------------------------------------------------------------------------------------------


def test_a_store_that_exists_is_left_alone(folder: Path) -> None:
    (folder / "scores").mkdir()
    (folder / "scores" / "mine").write_text("mine")
    with pytest.raises(StoreError, match="path='scores' exists; choose another path, or remove it first"):
        job(tiny.gpt2())
    assert [path.as_posix() for path in Path().rglob("*")] == ["scores", "scores/mine"]


def test_another_schema_version_and_half_a_store(folder: Path) -> None:
    job(tiny.gpt2())
    for name in ("scores", "explanation", "fit"):
        root = folder / name / "zarr.json"
        whole = root.read_text()
        root.write_text(whole.replace('"schema_version": 1', '"schema_version": 9'))
        with pytest.raises(StoreError, match="has schema version 9, this inflab reads 1; write it again"):
            inflab.load(name)
        root.write_text(whole[:-1])
        with pytest.raises(StoreError, match="is not an inflab store, or it is half written .*; write it again"):
            inflab.load(name)
        root.write_text(whole)
        inflab.load(name)


# --- the errors themselves --------------------------------------------------------------------------------------

BUILTIN = {
    CorpusError: ValueError, LayerError: ValueError, ModelError: ValueError, NumericsError: ArithmeticError,
    SettingError: ValueError, StoreError: ValueError, SchemaError: ValueError,
    inflab.errors.MissingDependencyError: ImportError,
}  # fmt: skip


@pytest.mark.parametrize(("error", "builtin"), BUILTIN.items())
def test_every_error_is_of_inflab_and_of_a_builtin_kind(error: Any, builtin: Any) -> None:
    assert issubclass(error, InflabError)
    assert issubclass(error, builtin)
