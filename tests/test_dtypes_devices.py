"""Narrow passes rank as full ones do and sum in float32; a model spread or offloaded gives the same, or says why."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import accelerate
import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from inflab import EKFAC, KFAC, Diagonal, Identity, Problem, Regression, adapters, products, top
from inflab.capture import Capture
from inflab.errors import InflabError, ModelError, NumericsError, SettingError
from inflab.products import tfloat32
from tests import tiny

# Forward-mode differentiation loads rules that torch still compiles with torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.* is deprecated:DeprecationWarning")

TRAIN = (*tiny.TEXTS, *(text.replace("sea", "lake").replace("Gleem", "Quill") for text in tiny.TEXTS))


def problem(model: Any) -> Any:
    return tiny.language_problem(model, tiny.corpus(TRAIN))


def rank_correlation(found: np.ndarray, expected: np.ndarray) -> float:
    return float(stats.spearmanr(found.ravel(), expected.ravel()).statistic)


# --- dtypes -----------------------------------------------------------------------------------------------------

FAMILIES = {"gpt2": tiny.gpt2, "llama": tiny.llama, "neox": tiny.neox}
METHODS = [EKFAC, KFAC, Diagonal, Identity]


@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("method", [EKFAC, Identity])
@pytest.mark.parametrize("way", ["a bfloat16 model", "a bfloat16 pass"])
def test_bfloat16_ranks_as_float32_does(make: Callable[[], Any], method: Any, way: str) -> None:
    """Labels of the data, so that no label is drawn otherwise because of a rounded probability."""
    expected = tiny.scores(problem(make()), tiny.queries(), method(fisher="empirical"))
    if way == "a bfloat16 model":
        found = tiny.scores(problem(make().bfloat16()), tiny.queries(), method(fisher="empirical"))
    else:
        found = tiny.scores(problem(make()), tiny.queries(), method(fisher="empirical", dtype="bfloat16"))
    assert found.dtype == np.float32
    assert np.abs(found - expected).max() > 0, "nothing was narrow"
    assert rank_correlation(found, expected) > 0.97


@pytest.mark.parametrize("way", [{"model": torch.bfloat16}, {"dtype": "bfloat16"}], ids=["model", "pass"])
def test_what_is_summed_is_float32(way: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations arrive rounded to bfloat16; their sums of products are not."""
    seen = []
    lay_out = Capture._tokens

    def look(self: Capture, *rest: Any) -> Any:
        tokens = lay_out(self, *rest)
        seen.append(tokens)
        return tokens

    monkeypatch.setattr(Capture, "_tokens", look)
    model = tiny.gpt2().to(way["model"]) if "model" in way else tiny.gpt2()
    method = KFAC(fisher="empirical", layers="*.h.1.mlp.c_proj", dtype=way.get("dtype"))
    fitted = tiny.fit(problem(model), method)
    (node,) = fitted.factors.children.values()
    assert {variable.dtype for variable in node.data_vars.values()} == {np.dtype("float32")}
    (tokens,) = seen
    assert tokens.activation.dtype == tokens.gradient.dtype == torch.float32
    rows = tokens.gradient[tokens.is_text].double()
    moment = (rows.T @ rows / len(rows)).numpy()
    assert torch.equal(tokens.gradient, tokens.gradient.bfloat16().float()), "the pass itself was narrow"
    basis, values = (node[f"gradient_{name}"].values.astype(float) for name in ("eigenvectors", "eigenvalues"))
    tiny.agree(basis @ np.diag(values) @ basis.T, moment, 1e-5)


def test_one_narrow_pass_is_undone_by_no_other() -> None:
    fitted = tiny.fit(problem(tiny.gpt2()), EKFAC(dtype="bfloat16"))
    assert json.loads(fitted.attrs["settings"])["dtype"] == "bfloat16"
    queries = tiny.queries()
    chosen = top(fitted.score(queries, progress=False), 2)
    tokens = fitted.attribute(queries, chosen, progress=False)
    tiny.agree(tokens["influence"].sum(["layer", "token"]), chosen["influence"], 1e-4)


@pytest.mark.parametrize("way", ["a float16 model", "a float16 pass"])
def test_float16_on_a_cpu_ranks_or_is_refused(way: str) -> None:
    """Its range is small: gradients may overflow, and then the layer is named."""
    expected = tiny.scores(problem(tiny.gpt2()), tiny.queries(), EKFAC(fisher="empirical"))
    model = tiny.gpt2().half() if way == "a float16 model" else tiny.gpt2()
    dtype = None if way == "a float16 model" else "float16"
    found = tiny.scores(problem(model), tiny.queries(), EKFAC(fisher="empirical", dtype=dtype))
    assert rank_correlation(found, expected) > 0.97


def test_float16_that_overflows_names_the_layer() -> None:
    model = tiny.gpt2()
    model.transformer.h[1].mlp.c_proj.weight.data *= 1e4
    tiny.fit(problem(copy.deepcopy(model)))
    with tiny.untouched(model), pytest.raises(NumericsError, match="NaN or infinit"):
        tiny.fit(problem(model), EKFAC(dtype="float16"))


def test_float64_stays_float64() -> None:
    fitted = tiny.fit(problem(tiny.gpt2().double()))
    assert fitted.score(tiny.queries(), progress=False)["influence"].dtype == np.float64
    assert {v.dtype for n in fitted.factors.children.values() for v in n.data_vars.values()} == {np.dtype("float64")}
    expected = tiny.scores(problem(tiny.gpt2()), tiny.queries())
    tiny.agree(fitted.score(tiny.queries(), progress=False)["influence"], expected, 1e-3)


REFUSED = {
    "wider than the model": (
        torch.float32,
        "float64",
        "is not narrower than the model's torch.float32; convert",
    ),
    "wider than bfloat16": (torch.bfloat16, "float32", "is not narrower than the model's torch.bfloat16"),
    "another half": (torch.bfloat16, "float16", "is not narrower than the model's torch.bfloat16"),
    "float64 in float32": (torch.float64, "float32", "cannot run a float64 model; convert a copy"),
    "float64 in bfloat16": (torch.float64, "bfloat16", "cannot run a float64 model; convert a copy"),
}


@pytest.mark.parametrize(("own", "dtype", "says"), REFUSED.values(), ids=REFUSED)
def test_a_dtype_that_the_model_cannot_run_in_is_refused(own: torch.dtype, dtype: str, says: str) -> None:
    model = tiny.gpt2().to(own)
    with tiny.untouched(model), pytest.raises(SettingError, match=f"dtype='{dtype}' {says}"):
        tiny.fit(problem(model), EKFAC(dtype=dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_the_models_own_dtype_may_be_named(dtype: str) -> None:
    model = tiny.mlp().to(getattr(torch, dtype))
    expected = tiny.scores(tiny.table_problem(copy.deepcopy(model)), tiny.table(2, "query"))
    tiny.agree(tiny.scores(tiny.table_problem(model), tiny.table(2, "query"), EKFAC(dtype=dtype)), expected, 1e-6)


def test_numbers_of_a_table_are_cast_to_the_models_dtype() -> None:
    draw = np.random.default_rng(0)
    inputs, targets = draw.standard_normal((10, 3)), draw.standard_normal((10, 1))

    found = [
        tiny.scores(
            Problem(
                tiny.seeded(nn.Sequential(nn.Linear(3, 1))).to(own), Regression(), adapters.from_arrays(inputs, targets)
            ),
            adapters.from_arrays(inputs[:2], targets[:2], dim="query"),
            Identity(),
        )
        for own in (torch.float64, torch.float32)
    ]
    tiny.agree(found[1], found[0], 1e-5)


# --- models spread and offloaded --------------------------------------------------------------------------------

PARTS = (
    "transformer.wte",
    "transformer.wpe",
    "transformer.drop",
    "transformer.h.0",
    "transformer.h.1",
    "transformer.ln_f",
)


def spread(folder: Any, seed: int = 0, **away: str) -> Any:
    """A GPT-2 as `device_map` leaves it: hooks on every part, some of it on disk."""
    device_map = {**dict.fromkeys([*PARTS, "lm_head"], "cpu"), **{f"transformer.{k}": v for k, v in away.items()}}
    model = tiny.gpt2(seed, tie_word_embeddings=False)
    return accelerate.dispatch_model(model, device_map, main_device="cpu", force_hooks=True, offload_dir=str(folder))


def _expected(layers: Any = "auto") -> Any:
    fitted = tiny.fit(problem(tiny.gpt2(tie_word_embeddings=False)), EKFAC(layers=layers))
    return fitted, fitted.score(tiny.queries(), by="layer", progress=False)


@pytest.mark.parametrize("away", [{}, {"h.0": "disk"}, {"h.1": "disk"}, {"h.0": "disk", "h.1": "disk"}], ids=str)
@pytest.mark.parametrize("layers", ["auto", "*"])
def test_a_spread_model_gives_the_same_and_is_left_as_it_was(away: dict[str, str], layers: str, tmp_path: Any) -> None:
    _, expected = _expected(layers)
    model = spread(tmp_path, **away)
    before = tiny.state(model)
    fitted = tiny.fit(problem(model), EKFAC(layers=layers))
    found = fitted.score(tiny.queries(), by="layer", progress=False)
    tiny.agree(found["influence"], expected["influence"], 1e-6)
    self_influence = fitted.self_influence(progress=False)["influence"]
    assert (self_influence > 0).all()
    after = tiny.state(model)
    for part in ("requires_grad", "grad", "training", "hooks"):
        assert after[part] == before[part], part


def test_tokens_of_an_offloaded_model_sum_to_the_scores(tmp_path: Any) -> None:
    fitted = tiny.fit(problem(spread(tmp_path, **{"h.0": "disk"})))
    scores = fitted.score(tiny.queries(), progress=False)
    chosen = top(scores, 2)
    for settings in ({}, {"pairs": True}):
        tokens = fitted.attribute(tiny.queries(), chosen, progress=False, **settings)["influence"]
        tiny.agree(tokens.sum([d for d in tokens.dims if d not in ("query", "rank")]), chosen["influence"], 1e-4)


def test_the_output_view_is_right_or_refused(tmp_path: Any) -> None:
    """It puts weights of its own in place of the model's, which an offloaded layer would overwrite."""
    here = tiny.fit(problem(spread(tmp_path / "a")))
    chosen = top(here.score(tiny.queries(), progress=False), 2)
    found = here.attribute(tiny.queries(), chosen, view="output", progress=False)["influence"]
    tiny.agree(found.sum("token"), chosen["influence"], 1e-4)
    away = tiny.fit(problem(spread(tmp_path / "b", **{"h.1": "disk"})))
    with pytest.raises(
        ModelError, match="weights of 'transformer.h.1.mlp.c_fc', which are offloaded; use view='update'"
    ):
        away.attribute(tiny.queries(), chosen, view="output", progress=False)


def test_a_model_that_is_offloaded_altogether_is_right_or_refused() -> None:
    model = accelerate.cpu_offload(tiny.gpt2(), execution_device=torch.device("cpu"))
    try:
        found = tiny.scores(problem(model), tiny.queries())
    except InflabError as error:
        assert "load its weights first" in str(error)
    else:
        tiny.agree(found, tiny.scores(problem(tiny.gpt2()), tiny.queries()), 1e-6)


def test_a_fingerprint_does_not_depend_on_where_weights_are(tmp_path: Any) -> None:
    expected = problem(tiny.gpt2(tie_word_embeddings=False)).model_fingerprint()
    for name, away in (("a", {}), ("b", {"h.0": "disk"}), ("c", {"h.0": "disk", "h.1": "disk"})):
        assert problem(spread(tmp_path / name, **away)).model_fingerprint() == expected
    other = problem(spread(tmp_path / "d", seed=1, **{"h.0": "disk", "h.1": "disk"}))
    assert other.model_fingerprint() != expected
    altogether = accelerate.cpu_offload(tiny.gpt2(tie_word_embeddings=False), torch.device("cpu"))
    assert problem(altogether).model_fingerprint() == expected


# --- accelerators -----------------------------------------------------------------------------------------------

gpu = pytest.mark.gpu


@gpu
@pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_an_accelerator_gives_the_same(make: Callable[[], Any], method: Any) -> None:
    expected = tiny.scores(problem(make().double()), tiny.queries(), method())
    model = make().double().cuda()
    with tiny.untouched(model):
        found = tiny.scores(problem(model), tiny.queries(), method())
    # Root mean squares of a Llama and angles of its and a NeoX's positions are float32 whatever the model is.
    token_id = torch.arange(8)[None]
    with torch.no_grad():
        here, there = make().double()(token_id).logits, model(token_id.cuda()).logits.cpu()
    differs = float((here - there).abs().max() / here.abs().max())
    assert differs < 1e-12 if make is tiny.gpt2 else differs < 1e-6
    tiny.agree(found, expected, 1e-8 + 30 * differs)


@gpu
def test_every_view_works_on_an_accelerator() -> None:
    fitted = tiny.fit(problem(tiny.gpt2().cuda()))
    chosen = top(fitted.score(tiny.queries(), progress=False), 2)
    for settings in ({}, {"pairs": True}, {"view": "output"}):
        tokens = fitted.attribute(tiny.queries(), chosen, progress=False, **settings)["influence"]
        tiny.agree(tokens.sum([d for d in tokens.dims if d not in ("query", "rank")]), chosen["influence"], 1e-3)
    assert (fitted.self_influence(progress=False)["influence"] > 0).all()


@gpu
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_narrow_passes_rank_alike_on_an_accelerator(dtype: str) -> None:
    expected = tiny.scores(problem(tiny.gpt2()), tiny.queries(), EKFAC(fisher="empirical"))
    for model, own in ((tiny.gpt2().cuda(), dtype), (tiny.gpt2().cuda().to(getattr(torch, dtype)), None)):
        found = tiny.scores(problem(model), tiny.queries(), EKFAC(fisher="empirical", dtype=own))
        assert rank_correlation(found, expected) > 0.97


@gpu
@pytest.mark.parametrize("away", [{}, {"h.1": "cpu"}, {"h.0": "disk"}], ids=str)
def test_a_model_spread_over_an_accelerator_and_memory_gives_the_same(away: dict[str, str], tmp_path: Any) -> None:
    _, expected = _expected()
    parts = dict.fromkeys([*PARTS, "lm_head"], 0) | {f"transformer.{k}": v for k, v in away.items()}
    model = accelerate.dispatch_model(
        tiny.gpt2(tie_word_embeddings=False), parts, main_device=0, force_hooks=True, offload_dir=str(tmp_path)
    )
    found = tiny.fit(problem(model)).score(tiny.queries(), by="layer", progress=False)
    tiny.agree(found["influence"], expected["influence"], 1e-3)


@pytest.mark.parametrize("shapes", [((40, 25), (25, 30)), ((4, 7, 12), (4, 12, 25)), ((65, 65), (3, 65, 50))], ids=str)
def test_rows_filled_up_for_tensor_cores_change_nothing(shapes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(shape, generator=draw, dtype=torch.float64) for shape in shapes)
    monkeypatch.setattr(products, "_on_cores", lambda value: True)
    assert products.matmul(a, b).shape == (a @ b).shape
    tiny.agree(products.matmul(a, b), a @ b, 1e-12)
    out = torch.empty_like(a @ b)
    assert products.matmul(a, b, out) is out
    tiny.agree(out, a @ b, 1e-12)
    flat = a.flatten(0, -2)
    gram = products.aligned(flat, a.shape[-1], a.shape[-1]).zero_()
    products.add_gram(gram, flat)
    products.add_gram(gram, flat)
    tiny.agree(products.mirror(gram), 2 * flat.T @ flat, 1e-12)


def test_tensor_cores_are_switched_back_also_after_an_error() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with pytest.raises(KeyboardInterrupt), tfloat32():
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        raise KeyboardInterrupt
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_tensor_cores_are_refused_where_there_are_none() -> None:
    with pytest.raises(SettingError, match="dtype='tfloat32' is for a float32 model on an NVIDIA GPU"):
        tiny.fit(tiny.language_problem(), EKFAC(dtype="tfloat32"))


@pytest.mark.gpu
def test_tensor_cores_give_nearly_the_same() -> None:
    expected = tiny.scored()["influence"]
    found = tiny.scores(tiny.language_problem(tiny.gpt2().cuda()), tiny.queries(), EKFAC(dtype="tfloat32"))
    assert np.corrcoef(found.ravel(), expected.to_numpy().ravel())[0, 1] > 0.99
