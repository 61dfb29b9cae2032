"""Cards: what a Problem, an Influence, an Index, a table of layers and a plan say of themselves in a notebook.

HTML with inline styles and its plain-text twin, made from the same facts: no script, no network, all text escaped. Ink
is the host's own (`currentColor`), so that light and dark pages both read well. Knows arrays and shapes only; a card
costs milliseconds, never a pass, and an error in it shows the text instead.
"""

from inflab.cards.index import index_card
from inflab.cards.influence import influence_card
from inflab.cards.page import Card, Fact, as_html, as_text
from inflab.cards.plan import PlanTable
from inflab.cards.problem import model_parameters, problem_card
from inflab.cards.tables import LayerTable

__all__ = [
    "Card", "Fact", "LayerTable", "PlanTable", "as_html", "as_text", "index_card", "influence_card",
    "model_parameters", "problem_card",
]  # fmt: skip
