"""Cards: all text escaped, nothing fetched, the plain-text twin says the same, and a display never fails or works."""

from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from inflab import BM25, CG, EKFAC, SOURCE, Checkpoint, Classification, Identity, Problem, ensemble, layers, load
from inflab.cards import LayerTable, PlanTable, as_html, influence_card, problem, spectrum
from inflab.cards.page import Card, Fact, frame
from inflab.cards.words import count, duration, number, percent, size, visible
from tests import tiny

HOSTILE = "<script>alert(1)</script>\" onload='x' \ud800\u202e\x00" + "w" * 10_000
KNOWN = {
    *("div", "span", "b", "code", "dl", "dt", "dd", "br", "table", "thead", "tbody", "tr", "th", "td"),
    *("svg", "title", "line", "text", "polyline", "rect"),
}
FETCHING = re.compile(r"url\(|https?:|//|@import|javascript:", re.IGNORECASE)


class Page(HTMLParser):
    """Tags, attributes and text of a card; refuses what could run or fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"
        html.encode("utf-8")

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in KNOWN, tag
        for name, value in attrs:
            assert not name.startswith("on"), name
            assert name not in {"href", "src", "xlink:href", "srcset", "action"}, name
            assert name != "style" or not FETCHING.search(value)
        if tag != "br":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def said(self) -> str:
        return " ".join(self.text)


def said(html: str | None) -> str:
    assert html is not None
    return Page(html).said()


def shown(thing: Any) -> str:
    return said(thing._repr_html_())


def numbers(text: str) -> set[str]:
    """Numbers of two digits and more: the card's own, not those of names."""
    return set(re.findall(r"(?<![\w.])\d[\d,.]*\d(?:×10[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)?%?", text))


def with_checkpoints() -> Problem:
    problem = tiny.language_problem()
    state = {name: value.clone() for name, value in problem.model.state_dict().items()}
    return Problem(
        problem.model,
        problem.task,
        problem.corpus,
        checkpoints=[Checkpoint(state, 1e-3, 120), Checkpoint(state, 1e-4, 80)],
    )


# --- the twin ---------------------------------------------------------------------------------------------------


def test_a_problem_says_model_coverage_corpus_and_fingerprints_in_both_twins() -> None:
    problem = with_checkpoints()
    text, html = repr(problem), shown(problem)
    length = problem.corpus["is_text"].sum("token")
    coverage = layers(problem, "auto").attrs
    for wanted in (
        "GPT2LMHeadModel",
        f"{coverage['parameters']:,} parameters, float32 on cpu",
        f"{coverage['covered']:,} of {coverage['parameters']:,} parameters ({coverage['share']:.0%}) in 4 layers",
        f"6 training sequences of {int(length.min())} to {int(length.max())} tokens",
        f"{int(length.sum())} tokens in all",
        "2 over 200 steps, learning rate 0.0001 to 0.001",
        problem.model_fingerprint(),
        problem.corpus_fingerprint(),
    ):
        assert wanted in text, wanted
        assert wanted in html, wanted
    assert len(text.splitlines()) == 3


def test_tables_and_models_without_layers_have_cards_too() -> None:
    assert "12 training examples, inputs 3 (feature)" in shown(tiny.table_problem())
    assert "44 of 44 parameters (100%) in 2 layers" in repr(tiny.table_problem())

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3, 4))

        def forward(self, value: torch.Tensor) -> torch.Tensor:
            return value @ self.weight

    problem = Problem(nn.Sequential(Odd()).eval(), Classification(), tiny.table())
    assert "covers nothing" in repr(problem)
    assert "nothing:" in shown(problem)


@pytest.mark.parametrize(
    "make",
    [
        lambda: tiny.fitted(),
        lambda: tiny.fit(tiny.language_problem(), CG(damping=1e-3, damping_kind="absolute")),
        lambda: tiny.fit(tiny.table_problem()),
        lambda: tiny.fit(with_checkpoints(), SOURCE()),
        lambda: tiny.fit(tiny.language_problem(), Identity()),
    ],
    ids=["EKFAC", "CG", "a table", "SOURCE", "Identity"],
)
def test_an_influence_says_the_same_numbers_in_both_twins(make: Any) -> None:
    influence = make()
    text, html = repr(influence), shown(influence)
    below = text.split("\n", 1)[1]
    assert numbers(below)
    assert numbers(below) <= numbers(html), numbers(below) - numbers(html)
    for name in ("model_fingerprint", "corpus_fingerprint"):
        assert influence.attrs[name] in text
        assert influence.attrs[name] in html
    assert len(text.splitlines()) == 3


def test_damping_and_spectrum_are_those_of_the_factors() -> None:
    influence = tiny.fitted()
    nodes = influence.factors.children.values()
    value = np.concatenate([node["eigenvalues"].to_numpy().ravel() for node in nodes])
    below = np.concatenate([(node["eigenvalues"] < node.attrs["damping"]).to_numpy().ravel() for node in nodes])
    damping = [node.attrs["damping"] for node in nodes]
    html = influence._repr_html_()
    assert f"lambda {number(min(damping))} to {number(max(damping))}" in repr(influence)
    assert f"{number(value.min())} to {number(value.max())}, {percent(below.mean())} below lambda" in repr(influence)
    assert 'role="img" aria-label="eigenvalues of all layers, sorted, log scale' in html
    assert html.count("<svg") == html.count("<title>") == 1
    assert f"{value.size:,} eigenvalues" in said(html)


def test_other_methods_have_cards_of_what_they_hold() -> None:
    lexical = tiny.fit(tiny.language_problem(), BM25())
    assert "shared words" in shown(lexical)
    assert "k1=1.5" in shown(lexical)
    both = ensemble([tiny.fitted(), tiny.fitted()])
    assert "the mean of several influences" in shown(both)
    assert shown(both).count("EKFAC") == 2
    assert "no curvature" in shown(tiny.fit(tiny.language_problem(), Identity()))


def test_what_was_loaded_says_what_is_missing_and_reads_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.fitted().save(tmp_path / "fit.zarr")
    opened = load(tmp_path / "fit.zarr")
    monkeypatch.setattr(spectrum, "_MOST_READ", 10)
    assert "on disk, read when a question needs them" in shown(opened)
    assert "no problem attached" in shown(opened)
    assert "on disk" in repr(opened)
    assert "<svg" not in opened._repr_html_()
    monkeypatch.undo()
    assert "<svg" in opened._repr_html_()


def test_an_index_says_how_good_it_is(tmp_path: Path) -> None:
    index = tiny.fitted().index(tmp_path / "index.zarr", size=0.25, progress=False)
    html = shown(index)
    assert f"{index.attrs['fidelity']:.3f} rank correlation" in html
    assert "6 training sequences" in html
    assert str(tmp_path)[:20] in html


# --- tables -----------------------------------------------------------------------------------------------------


def test_the_table_of_layers_stays_a_table() -> None:
    table = layers(tiny.gpt2(), "auto")
    covered = table[table["covered"]].drop(columns="why_not")
    for found in (table, covered, table.head(3), table.sort_values("parameters")):
        assert isinstance(found, LayerTable)
        assert found.attrs == table.attrs
        assert f"{table.attrs['covered']:,} of {table.attrs['parameters']:,}" in shown(found)
    assert "✓ yes" in shown(covered)
    assert "not supported" in shown(table)
    assert repr(table).splitlines()[-1].endswith("are covered")
    assert type(table["parameters"]) is pd.Series


def test_what_is_no_list_of_layers_any_more_looks_as_pandas_has_it() -> None:
    table = layers(tiny.gpt2())
    for found in (table[["parameters"]], table.describe(), table.T, table[table["parameters"] < 0]):
        html = found._repr_html_()
        assert html is not None
        assert 'class="dataframe"' in html
        assert "are covered" not in repr(found)
    assert "transformer.wte" in shown(table.reset_index())
    twice = pd.concat([table, table[["covered"]]], axis=1)
    assert 'class="dataframe"' in twice._repr_html_(), "two columns of one name: the card gives way"
    with pd.option_context("display.notebook_repr_html", False):
        assert table._repr_html_() is None
    with pd.option_context("display.max_rows", 6):
        assert f"… {len(table) - 6} more …" in shown(table)


def test_a_plan_says_passes_time_and_memory_against_the_budget() -> None:
    problem, method = tiny.language_problem(), EKFAC()
    for plan in (
        method.plan(problem, memory="3GB", rate=1e9),
        tiny.fitted().plan(tiny.queries(), memory="3GB", rate=1e9),
    ):
        assert isinstance(plan, PlanTable)
        html = shown(plan)
        for wanted in (
            f"about {duration(plan.attrs['seconds'])}",
            f"{number(plan.attrs['flops'])} operations",
            f"peak memory {size(plan.attrs['bytes'])}, within the budget of 3 GB",
            *plan["step"].unique(),
        ):
            assert wanted in html, wanted
        assert repr(plan).splitlines()[-1].startswith(f"about {duration(plan.attrs['seconds'])}: ")
    assert "OVER the budget of 1 kB" in repr(method.plan(problem, memory=1000, rate=1e9))
    one = plan[plan["layer"] != ""]
    assert 'class="dataframe"' in one._repr_html_(), "a selection is no whole plan"
    assert "peak memory" not in repr(one)
    assert "instead of" in html and "× the operations" in html


# --- untrusted text ---------------------------------------------------------------------------------------------


def hostile_problem() -> Problem:
    model = nn.Sequential()
    model.add_module("<b onclick=x>first", nn.Linear(3, 4))
    model.__class__ = type("<script>alert(1)</script>", (nn.Sequential,), {})
    task = Classification()
    corpus = tiny.table(6).assign_coords({HOSTILE: ("train", [HOSTILE] * 6), "<i>": ("train", range(6))})
    return Problem(model.eval(), task, corpus)


def test_names_that_came_with_data_stay_text() -> None:
    problem = hostile_problem()
    html = problem._repr_html_()
    assert "<script" not in html
    assert "<script>alert(1)</script>" in said(html), "readable, as text"
    assert len(html) < 20_000
    table = layers(problem)
    assert "<b onclick=x>first" in shown(table)
    influence = tiny.fit(problem)
    assert "<b onclick=x>first" in shown(EKFAC(layers="<b*").plan(problem, rate=1e9).assign(route="<b onclick=x>first"))
    tree = influence._tree.copy()
    tree.attrs = {**tree.attrs, "method": HOSTILE, "model_fingerprint": HOSTILE}
    Page(influence_card(tree).html())


@given(st.text(max_size=300))
def test_any_text_is_one_line_that_can_be_sent(text: str) -> None:
    found = visible(text)
    assert len(found) <= 60
    assert found.isprintable()
    found.encode("utf-8")
    card = Card(text, text, text, [Fact("name", visible(text), items=[text], line=1)])
    assert "<script" not in card.html()
    Page(frame("", text))


# --- a display never fails, and never works ---------------------------------------------------------------------


def test_an_error_in_a_card_shows_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for thing in (tiny.language_problem(), tiny.fitted()):
        first = repr(thing).splitlines()[0]
        with monkeypatch.context() as patch:
            patch.setattr(type(thing), "_card", lambda self: 1 / 0)
            assert repr(thing) == first
            html = thing._repr_html_()
        assert html.startswith("<pre>")
        assert "ZeroDivisionError" in html
        assert "GPT2LMHeadModel" in html or "EKFAC" in html
    assert as_html(lambda: str(1 / 0), lambda: "<x>").startswith("<pre>&lt;x&gt;")


def test_a_display_hashes_and_counts_only_what_is_small_and_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tiny.language_problem()
    monkeypatch.setattr(problem, "_MOST_BYTES", 10)
    monkeypatch.setattr(Problem, "model_fingerprint", lambda self: pytest.fail("hashed the model"))
    monkeypatch.setattr(Problem, "corpus_fingerprint", lambda self: pytest.fail("hashed the corpus"))
    assert f"6 training sequences of up to {whole.corpus.sizes['token']} tokens" in repr(whole)
    assert "fingerprints" not in shown(whole)


def test_a_model_without_weights_is_described() -> None:
    whole = tiny.language_problem()
    whole.model = whole.model.to("meta")
    assert "float32 on meta" in repr(whole)
    assert "fingerprints model" not in repr(whole)
    assert "fingerprints" in shown(whole)


def test_cards_load_no_torch() -> None:
    code = "import sys, inflab.cards; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


# --- pictures and words -----------------------------------------------------------------------------------------


def node(value: Any, damping: float) -> xr.DataTree:
    array = xr.DataArray(np.asarray(value, np.float32), dims=("gradient_eigen", "activation_eigen"))
    return xr.DataTree(xr.Dataset({"eigenvalues": array}, attrs={"damping": damping}))


@pytest.mark.parametrize(
    ("value", "damping"),
    [([[1.0]], 0.1), ([[2.0, 2.0]], 0.0), ([[0.0, 1.0]], 1e-30), ([[1e-30, 1e30]], 1.0), ([[1.0, 2.0]], 100.0)],
    ids=["one", "all alike, no damping", "a zero", "far apart", "damping above all"],
)
def test_any_spectrum_is_drawn_inside_its_picture(value: Any, damping: float) -> None:
    found = spectrum.spectrum_of([node(value, damping)])
    assert isinstance(found, spectrum.Spectrum)
    drawn = spectrum.svg(found)
    Page(drawn)
    assert "nan" not in drawn
    (points,) = re.findall(r'points="([^"]*)"', drawn)
    for point in points.split():
        x, y = map(float, point.split(","))
        assert 0 <= x <= 216
        assert 0 <= y <= 92
    assert ("λ" in drawn) is (damping > 0)


def test_an_empty_curvature_has_no_picture() -> None:
    found = spectrum.spectrum_of([node([[0.0, 0.0]], 1.0)])
    assert isinstance(found, spectrum.Spectrum)
    assert spectrum.svg(found) == ""


def test_a_large_spectrum_is_sampled_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "_MOST_SEEN", 2000)
    values = np.random.default_rng(0).uniform(0.5, 1.5, (100, 100))
    found = spectrum.spectrum_of([node(values, 1.0)])
    assert isinstance(found, spectrum.Spectrum)
    assert found.is_sample
    assert found.share_below == pytest.approx(0.5, abs=0.05)
    assert "about " in found.words()


def test_numbers_in_words() -> None:
    assert [percent(x) for x in (0, 1e-5, 0.05, 0.0994, 0.0996, 0.53, 0.9999, 1)] == [
        "0%", "<0.1%", "5.0%", "9.9%", "10%", "53%", ">99%", "100%",
    ]  # fmt: skip
    assert [size(n) for n in (1, 999, 1000, 8.36e6, 2.5e11, 999_999)] == [
        "1 byte",
        "999 bytes",
        "1 kB",
        "8.36 MB",
        "250 GB",
        "1 MB",
    ]
    assert [duration(s) for s in (0.01, 2.26, 59, 200, 7200, 1e6, float("nan"))] == [
        "under 0.1 s", "2.3 s", "59 s", "3.3 min", "2.0 h", "12 days", "unknown",
    ]  # fmt: skip
    assert [number(x) for x in (0, 0.1, 2.13e-6, -3e20, float("nan"))] == ["0", "0.1", "2.13×10⁻⁶", "−3×10²⁰", "–"]
    assert (count(1, "layer"), count(1234, "layer")) == ("1 layer", "1,234 layers")
