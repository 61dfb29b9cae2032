"""Charts: one function each, a labelled array in, an Altair chart out.

Influence is drawn as effects, "nat per added copy" (influence / n_train, GB23 eq. 6): how much an added copy of a
training sequence is predicted to change the log-probability of the query's completion. Sign is said in words and drawn
in a blue and an orange that colour-blind readers can tell apart (Okabe and Ito 2008). Nothing is fetched: `to_svg`
draws with vl-convert.
"""

from inflab.plot.analysis import correlation, depth
from inflab.plot.influence import UNITS, layer_profile, tokens, top_bar
from inflab.plot.measures import agreement, mislabels, pbrf, removal
from inflab.plot.style import DARK_INKS, NEGATIVE, POSITIVE, Chart, to_svg
from inflab.plot.tails import spectrum, tail
from inflab.plot.trust import trust

__all__ = [
    "DARK_INKS",
    "NEGATIVE",
    "POSITIVE",
    "UNITS",
    "Chart",
    "agreement",
    "correlation",
    "depth",
    "layer_profile",
    "mislabels",
    "pbrf",
    "removal",
    "spectrum",
    "tail",
    "to_svg",
    "tokens",
    "top_bar",
    "trust",
]
