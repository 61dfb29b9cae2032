# %% [markdown]
# # 8. Does it work?
#
# *Which training text made my model say this?* By now you can compute an answer. Should anyone believe it? An influence score is a
# claim about training: *with this text, the model would say that more*. So train, and look. This lesson holds methods against
# hundreds of trainings, shows where they fail, and ends with how to read a claim.
#
# **After this lesson you can**
# - compute a linear datamodeling score (LDS), with its interval and its noise ceiling;
# - say what damping, seeds and an exact solve do to it;
# - name ways in which an influence score misleads;
# - ask the right questions of a published number.
#
# About 45 minutes. Lessons 2 and 3 help.

# %%
import sys

sys.path[:0] = [".", ".."]

import altair as alt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from lessons import lesson_8 as lesson
from scipy.stats import rankdata

import inflab
from inflab.widgets import Playground

torch.set_num_threads(1)
alt.renderers.enable("svg")
bank = lesson.bank()
print({dim: int(size) for dim, size in bank.sizes.items()})

# %% [markdown]
# ## A bank of retrained models
#
# The task is small enough to train hundreds of times: the strength of concrete from its recipe (930 training examples, a net with
# two hidden layers). 100 random halves of the data, each trained 5 times with other seeds; after each, 100 held-out queries were
# measured. That took its time once, and ships with the notebooks.
#
# A method gives each query a score for each training example. If influence is additive, its prediction for a half is the *sum of
# the scores of its members*.
#
# **Exercise 1.** Compute all predictions.

# %%
def predicted(is_member, influence):
    """is_member (parts, train) bool, influence (queries, train): prediction (queries, parts)."""
    # solution
    return influence @ is_member.T.astype(float)
    # stub
    #: raise NotImplementedError("the sum over the members of each part")
    # end


predicted = lesson.check_predicted(predicted)

# %%
scores = lesson.scores()  # trains one model on everything, fits five methods
is_member = bank["is_member"].to_numpy()
measured = bank["measurement"].mean("seed").transpose("query", "subset").to_numpy()
said = {name: predicted(is_member, s["influence"].transpose("query", "train").to_numpy()) for name, s in scores.items()}

query = 0
frame = pd.DataFrame({"predicted": said["EKFAC"][query], "measured": measured[query]})
alt.Chart(frame).mark_circle(size=40, color="#0072b2").encode(
    x=alt.X("predicted:Q", title="predicted, sum of influences", scale=alt.Scale(zero=False)),
    y=alt.Y("measured:Q", title="measured log p after training, nat", scale=alt.Scale(zero=False)),
).properties(width=300, height=220, title="One query, 100 halves of the data (EK-FAC)")

# %% [markdown]
# ## One number for it
#
# **Exercise 2.** The linear datamodeling score: for each query, Spearman's rank correlation over the parts; then the mean over
# queries. (`scipy.stats.rankdata` ranks along an axis; Spearman is Pearson's correlation of ranks.)

# %%
def lds(predicted, measured):
    """Both (queries, parts): one number."""
    # solution
    a, b = rankdata(predicted, axis=1), rankdata(measured, axis=1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return ((a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))).mean()
    # stub
    #: raise NotImplementedError("the mean over queries of Spearman's correlation over the parts")
    # end


lds = lesson.check_lds(lds)
pd.Series({name: lds(p, measured) for name, p in said.items()}).round(3).to_frame("LDS")

# %%
lesson.ask_ceiling()

# %% [markdown]
# ## The most that anyone can get
#
# If single trainings agree with correlation $r$, the mean of $k$ of them has the reliability $k r / (1 + (k-1) r)$ (Spearman and
# Brown), and a perfect prediction correlates with it by the *square root* of that.
#
# **Exercise 3.** Write this noise ceiling.

# %%
def ceiling(between, seeds):
    """From the correlation between single trainings, and how many are averaged."""
    # solution
    return np.sqrt(seeds * between / (1 + (seeds - 1) * between))
    # stub
    #: raise NotImplementedError("the root of the reliability")
    # end


ceiling = lesson.check_ceiling(ceiling)

# %%
one = bank["measurement"].transpose("seed", "query", "subset").to_numpy()
pairs = [lds(one[i], one[j]) for i in range(len(one)) for j in range(i)]
print(f"two trainings on the same half agree by {np.mean(pairs):.2f}; ceiling with {len(one)}: {ceiling(np.mean(pairs), len(one)):.2f}")

# %%
lesson.ask_subsets()

# %% [markdown]
# Push the slider: how many trainings of each half are averaged. To the right: how many halves are used.

# %%
Playground(
    [], [], lesson.by_subsets, move="none", sliders={"seeds": (1, 5, 5)}, x_label="random halves", y_label="LDS",
    x_domain=(0, 105), y_domain=(0, 0.8), label="LDS of EK-FAC and of the dot product, by the size of the bank",
)

# %% [markdown]
# ## Intervals
#
# **Exercise 4.** A bootstrap interval of a mean over queries: `picks` holds, for each resample, which queries are drawn. Take the
# mean of each resample, then the 2.5% and 97.5% quantiles of those.

# %%
def interval(values, picks):
    """values (queries,), picks (resamples, queries): low and high, shape (2,)."""
    # solution
    return np.quantile(values[picks].mean(1), [0.025, 0.975])
    # stub
    #: raise NotImplementedError("quantiles of the means of the resamples")
    # end


interval = lesson.check_bootstrap(interval)

# %% [markdown]
# The library draws halves and queries again *together*, and pairs the methods. All five at once:

# %%
found = inflab.lds(scores, bank)
display(inflab.plot.agreement(found, width=300))
low, high = found["difference_interval"].sel(estimator="EKFAC", other="Identity").to_numpy()
print(f"EK-FAC above the dot product by {float(found['difference'].sel(estimator='EKFAC', other='Identity')):.2f} ({low:.2f} to {high:.2f})")

# %% [markdown]
# ## Is an exact solve better?

# %%
lesson.ask_exact()

# %%
rows = []
for name in ("concrete", "digits"):
    every = lesson.agreement(name)
    for method in ("EKFAC", "CG"):
        for damping in (0.001, 0.01, 0.1):
            label = f"{method}, λ = {damping:g}"
            value, (down, up) = float(every["lds"].sel(estimator=label)), every["interval"].sel(estimator=label).to_numpy()
            rows.append({"task": name, "method": method, "damping": damping, "lds": value, "low": down, "high": up})
base = alt.Chart(pd.DataFrame(rows)).encode(
    x=alt.X("damping:Q", scale=alt.Scale(type="log"), title="damping λ, absolute"),
    color=alt.Color("method:N", title=None, scale=alt.Scale(range=["#d55e00", "#0072b2"])),
)
(
    base.mark_line(point=True).encode(y=alt.Y("lds:Q", title="LDS, 95% interval"), strokeDash=alt.StrokeDash("method:N", legend=None))
    + base.mark_rule().encode(y="low:Q", y2="high:Q")
).properties(width=240, height=180).facet(column=alt.Column("task:N", title=None))

# %% [markdown]
# ### The best that a straight line can do
#
# If training is deterministic, the derivative of a measurement in each example's weight can be computed *exactly*, through all steps
# of the training (MAGIC). No linear prediction of that training can be better:

# %%
inflab.plot.agreement(lesson.agreement("concrete-fixed"), width=300)

# %% [markdown]
# EK-FAC sees only the end of training. What lies between the two is the price of not following it.
#
# ## Where it fails
#
# The same training with another seed gives another model. Do their scores agree?

# %%
other = lesson.scores(8)
spearman = [
    np.corrcoef(rankdata(a), rankdata(b))[0, 1]
    for a, b in zip(scores["EKFAC"]["influence"].to_numpy(), other["EKFAC"]["influence"].to_numpy())
]
tops = [inflab.top(s["EKFAC"], 10)["train"].to_numpy() for s in (scores, other)]
shared = np.mean([len(set(a) & set(b)) for a, b in zip(*tops)])
each = found["lds_by_query"]
failures = {
    "rank correlation of all scores between two trainings (median over queries)": np.median(spearman),
    "of the top 10, how many stay with another training (mean)": shared,
    "share of queries that the dot product predicts better than EK-FAC": float((each.sel(estimator="Identity") > each.sel(estimator="EKFAC")).mean()),
    "share of queries with an LDS below 0 (EK-FAC)": float((each.sel(estimator="EKFAC") < 0).mean()),
}
pd.Series(failures).round(2).to_frame("measured here")

# %%
lesson.ask_claim()

# %% [markdown]
# ## How to read a claim
#
# - **Of what?** Retraining, a local response, or a list that looks right? They are different claims.
# - **Against what?** The dot product and a lexical search (BM25) are free. Are they in the table?
# - **How sure?** Queries, seeds, halves; an interval of the *difference*, paired.
# - **How far from possible?** The noise ceiling.
# - **Which damping, which layers?** Chosen before, or for this table?
# - **One model or many?** A ranking that does not survive another seed says something about that seed.
#
# ## What to take along
#
# - Influence predicts which data help, clearly better than chance and than a dot product, and far from perfectly.
# - Read a top list as *candidates*: then leave them out, and train again, if it matters.
#
# **Think on.** The measure you used averages over random halves. Which claim about a *single* document can it not support?
#
# **Further reading.** S. M. Park, K. Georgiev, A. Ilyas, G. Leclerc and A. Madry (2023), *TRAK: attributing model behavior at scale*,
# ICML. J. Bae, W. Lin, J. Lorraine and R. Grosse (2024), *Training data attribution via approximate unrolled differentiation*,
# arXiv 2405.12186. A. Ilyas and L. Engstrom (2025), *MAGIC: near-optimal data attribution for deep learning*, arXiv 2504.16430.

# %% [markdown] tags=["instructor"]
# **For teachers.** That *this* document made the model say it, or would change the answer by so many nats when left
# out. The measure says that sums over random halves come in the right order. Errors of single documents cancel in such
# sums, and one document's effect may be smaller than the difference between two seeds. For that claim leave the
# document out and train again, over several seeds, and give the interval beside the prediction
# (`inflab.truth.leave_out`, `influence.trust`).
