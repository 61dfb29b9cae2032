# %% [markdown]
# # 6. Retrieval
#
# *Which training text made my model say this?* You can compute the influence of one text now. Somebody must still
# choose which texts to compute it for, hold many questions in memory at once, and read the answer without fooling
# themselves. This lesson is about the search: what a filter by words finds and what it cannot, what low rank costs,
# where in a text and in the network the influence sits, and how much of it the top of a list holds.
#
# **After this lesson you can**
# - write the paper's TF-IDF filter, and measure what it loses;
# - say why a gradient can be stored at a low rank, and check the price;
# - find the token and the layer that carry an influence, and read heat on a text rightly;
# - report a top list with the share that it holds.
#
# About 45 minutes. Lessons 4 and 5 help.

# %%
import sys

sys.path[:0] = [".", ".."]

import altair as alt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from lessons import lesson_6 as lesson

import inflab
from inflab.widgets import Playground

torch.set_num_threads(1)
alt.renderers.enable("svg")
pd.set_option("display.max_colwidth", 90)
corpus, tokenizer, queries, ekfac, scores = lesson.facts()  # the model is trained on first use
texts = corpus["text"].to_numpy().tolist()
print(f"{queries.sizes['query']} questions, {len(texts)} sentences; the first question and what influences its answer most:")
inflab.top(scores.isel(query=[0]), 5)[["effect", "text"]].to_dataframe()[["effect", "text"]].round(4)

# %% [markdown]
# ## A filter by words
#
# Gradients of 160 sentences cost nothing. Of ten million documents, one takes only those that a cheap filter keeps:
# in the paper, the 10,000 with the largest TF-IDF. With $C$ documents, $n_t$ of which hold the word $t$ (equations 28
# and 29),
#
# $$ \mathrm{score}(d) = \sum_{t \in \text{query}} \mathrm{IDF}_t\, [t \in d], \qquad
# \mathrm{IDF}_t = \log\!\Big(\frac{C - n_t + 1/2}{n_t + 1/2} + 1\Big). $$
#
# **Exercise 1.** Write it. `query` holds the numbers of the query's words, one after the other (a word that comes
# twice counts twice); `holds[d, t]` says whether document d holds word t.

# %%
def tfidf(query, holds):
    """query (length,) ints, holds (documents, words) bool: score (documents,)."""
    # solution
    n_t = holds.sum(0)
    idf = np.log((len(holds) - n_t + 0.5) / (n_t + 0.5) + 1)
    return holds[:, query] @ idf[query]
    # stub
    #: raise NotImplementedError("equations 28 and 29")
    # end


tfidf = lesson.check_tfidf(tfidf)

# %%
asked = queries.isel(query=[0])
words, query, holds = lesson.terms(texts, asked["text"].item())
mine = tfidf(query, holds)
library = inflab.filter_candidates(asked, corpus, 8, by="tfidf", on="words", progress=False)
order = np.argsort(-mine, kind="stable")[:8]
pd.DataFrame({"yours": mine[order], "library": library["similarity"].to_numpy()[0], "text": np.array(texts)[order]}).round(3)

# %%
lesson.ask_filter()

# %% [markdown]
# **Exercise 2.** How much does a filter lose? Of the exact top $k$ (largest influence), which share is among the
# filter's first $m$? Take the mean over queries.

# %%
def recall(exact, similarity, k, m):
    """exact and similarity (queries, documents): one number."""
    # solution
    best = np.argsort(-exact, axis=1)[:, :k]
    few = np.argsort(-similarity, axis=1, kind="stable")[:, :m]
    return np.mean([np.isin(b, f).mean() for b, f in zip(best, few)])
    # stub
    #: raise NotImplementedError("the share of the exact top k in the filter's top m, mean over queries")
    # end


recall = lesson.check_recall(recall)

# %% [markdown]
# ### Its blind spot
#
# A small model has read who eats, drinks, plays and grows what, in English and in Spanish, which have no word in
# common; some sentences mix the two, so it could learn which words mean the same. Some facts were told in English
# *alone*. They are asked here in English, and in Spanish: facts told in other words than the question.

# %%
habits = lesson.habits()
lengths = [10, 20, 50, 100, 200, 400]
rows = [
    {"asked": name, "kept": m, "recall": recall(exact["influence"].transpose("query", "train").to_numpy(), similarity, 10, m)}
    for name, kind in (("as it was told", "memorised"), ("in other words", "paraphrase"))
    for exact, similarity in [habits[kind]]
    for m in lengths
]
display(
    alt.Chart(pd.DataFrame(rows)).mark_line(point=alt.OverlayMarkDef(size=60)).encode(
        x=alt.X("kept:Q", scale=alt.Scale(type="log"), title=f"candidates kept by TF-IDF, of {habits['memorised'][1].shape[1]}"),
        y=alt.Y("recall:Q", scale=alt.Scale(domain=[0, 1]), title="share of the exact top 10 among them"),
        color=alt.Color("asked:N", title="the fact is asked", scale=alt.Scale(range=["#0072b2", "#d55e00"])),
        shape=alt.Shape("asked:N", title="the fact is asked"),
    ).properties(width=320, height=220, title="What a filter by words keeps")
)
exact, similarity = habits["paraphrase"]
one = inflab.top(exact, 5).isel(query=0)
place = {name: i for i, name in enumerate(exact["train"].to_numpy())}
ranks = similarity[0].argsort(kind="stable")[::-1].argsort()
print(f"asked: {one['query'].item()}")
pd.DataFrame({
    "text": one["text"].to_numpy(), "effect, nat": one["effect"].to_numpy(),
    "place in the filter's list": [int(ranks[place[t]]) + 1 for t in one["train"].to_numpy()],
}).round(4)

# %% [markdown]
# Read the two curves as a price list: how many gradients must be computed to have 8 of the 10? BM25 weighs the same
# words a little otherwise, and is as blind to others (try `by="bm25"` in `inflab.filter_candidates`). A filter makes
# its own findings: a study that keeps only what shares words will find that influence shares words.
#
# ## Low rank
#
# One pass over the data should serve many questions. Their gradients must then lie in memory together, each as large
# as the layers.

# %%
lesson.ask_rank()

# %% [markdown]
# **Exercise 3.** Store a query's (preconditioned) gradient $V$, a matrix $P \times I$, at rank $r$: the nearest
# matrix of that rank.

# %%
def truncated(v, r):
    """v (P, I): the nearest matrix of rank r, (P, I)."""
    # solution
    u, s, wt = np.linalg.svd(v, full_matrices=False)
    return (u[:, :r] * s[:r]) @ wt[:r]
    # stub
    #: raise NotImplementedError("its r largest singular values")
    # end


truncated = lesson.check_truncated(truncated)

# %%
V = np.random.default_rng(0).normal(size=(40, 9)) @ np.diag(0.5 ** np.arange(9)) @ np.random.default_rng(1).normal(size=(9, 60))
pd.Series({r: np.linalg.norm(V - truncated(V, r)) / np.linalg.norm(V) for r in (1, 2, 4, 8, 9)}, name="relative error").rename_axis("rank").to_frame().round(4)

# %% [markdown]
# The nearest *gradient* is not the one with the nearest *scores*: what counts is the error along directions that
# training gradients have. "Whitened" truncates after scaling by the covariances $S$ and $A$, and scales back. Push
# the slider (it takes the nearest power of two; the first look at a rank costs two passes over the corpus):

# %%
Playground(
    [], [], lesson.rank_picture, move="none", sliders={"rank": (1, 32, 2)}, x_label="question, the worst first",
    y_label="1 - correlation, power of ten", x_domain=(0, 21), y_domain=(-6, 0),
    label="Scores at a low rank against exact scores, twenty questions",
)

# %% [markdown]
# Which rank is enough for a correlation of 0.99 with *every* question, plain and whitened? Is the first sentence of
# the list the same before the correlation is high?
#
# ## Where in the text, where in the network

# %%
lesson.ask_answer()

# %% [markdown]
# Step through the questions, pick a sentence, look at its tokens and layers.
#
# - Which token of the teaching sentence is the warmest? Which word does it *read*, and which does it *predict*?
# - Find a question with a sentence about another country among its first five. What does it share with the question?
# - In the tab of the layers: which block carries the teaching sentence? Leave it out. Does the list change?
# - Go to the most negative sentences. What do they teach *instead*?

# %%
inflab.Explorer(ekfac, queries.isel(query=slice(12)), k=5, tokenizer=tokenizer)

# %% [markdown]
# Now count over questions: the sentence that taught each fact, its tokens counted from the answer's first word, and
# its layers.

# %%
few = queries.isel(query=slice(24))
best = inflab.top(scores.isel(query=slice(24)), 1)
is_teacher = best["train"].isel(rank=0).to_numpy() == few["taught_by"].to_numpy()
found, ranked = few.isel(query=is_teacher), best.isel(query=is_teacher)
tokens = ekfac.attribute(found, ranked, memory=lesson.MEMORY, progress=False)
prompts = [len(tokenizer(text)["input_ids"]) for text in found["prompt"].to_numpy()]
places = pd.Series(lesson.by_place(tokens, prompts))
places = places[places.index >= -7].rename("share").rename_axis("place").reset_index()
layers = np.abs(tokens["influence"].sum("token")).isel(rank=0)
layers = (layers / layers.sum("layer")).mean("query").rename("share").to_dataframe()["share"].reset_index()
layers["layer"] = layers["layer"].str.replace("transformer.h.", "block ").str.replace(".mlp.", ", ")
left = alt.Chart(places).mark_bar(color="#0072b2").encode(
    x=alt.X("place:O", title="token; 0 is the answer's first word", axis=alt.Axis(labelAngle=0)), y=alt.Y("share:Q", title="mean share of |influence|"),
).properties(width=280, height=180, title="Where in the sentence")
right = alt.Chart(layers).mark_bar(color="#d55e00").encode(
    y=alt.Y("layer:N", title=None), x=alt.X("share:Q", title="mean share of |influence|"),
).properties(width=220, height=180, title="Where in the network")
print(f"{is_teacher.sum()} of {len(is_teacher)} questions have the teaching sentence first")
left | right

# %% [markdown]
# Token $-1$ reads the last word of the question and learns to predict the answer's first word. Its part holds
# everything later as well (lesson 5). A highlight is a place in the *computation*, not a word that matters.
#
# ## How much the top holds

# %%
lesson.ask_share()

# %% [markdown]
# **Exercise 4.** A list of ten looks convincing whatever its numbers. Say what it holds: the sum of the $k$ largest
# influences, over the sum of all *positive* ones.

# %%
def top_share(influence, k):
    """influence (train,): one number between 0 and 1."""
    # solution
    positive = np.sort(np.maximum(influence, 0))[::-1]
    return positive[:k].sum() / positive.sum()
    # stub
    #: raise NotImplementedError("the share of the k largest in all positive influence")
    # end


top_share = lesson.check_share(top_share)

# %%
dot = inflab.Identity(layers="*.mlp.*").fit(ekfac.problem, memory=lesson.MEMORY, progress=False)
both = {"EK-FAC": scores, "dot product": dot.score(queries, memory=lesson.MEMORY, progress=False)}
rows = []
for name, every in both.items():
    value = every["influence"].transpose("query", "train").to_numpy()
    for k in (1, 2, 3, 5, 10, 20, 40, 80):
        low, middle, high = np.quantile([top_share(row, k) for row in value], [0.25, 0.5, 0.75])
        rows.append({"method": name, "k": k, "low": low, "share": middle, "high": high})
base = alt.Chart(pd.DataFrame(rows)).encode(
    x=alt.X("k:Q", scale=alt.Scale(type="log"), title="sentences, the most influential first"),
    color=alt.Color("method:N", title=None, scale=alt.Scale(range=["#d55e00", "#0072b2"])),
    strokeDash=alt.StrokeDash("method:N", title=None),
)
(
    base.mark_area(opacity=0.15).encode(y=alt.Y("low:Q", scale=alt.Scale(domain=[0, 1])), y2="high:Q")
    + base.mark_line(point=True).encode(y=alt.Y("share:Q", title="share of all positive influence"))
).properties(width=340, height=220, title="The top's share: median, middle half of the questions")

# %% [markdown]
# ## What to take along
#
# - A filter decides what can be found. Measure its recall, and measure it where the words differ.
# - Short questions have gradients of low rank; whitening spends the rank where scores need it.
# - Heat sits one token early, and holds everything later.
# - A top list comes with its share. What it does not hold is the rest of the answer.
#
# **Think on.** You search ten million documents for what taught a model to be polite. Which of this lesson's four
# parts would mislead you first, and what would you do beside it?
#
# **Further reading.** S. Robertson and H. Zaragoza (2009), *The probabilistic relevance framework: BM25 and beyond*,
# Foundations and Trends in Information Retrieval 3. C. Eckart and G. Young (1936), *The approximation of one matrix
# by another of lower rank*, Psychometrika 1. E. Akyürek, T. Bolukbasi, F. Liu, B. Xiong, I. Tenney, J. Andreas and K.
# Guu (2022), *Towards tracing knowledge in language models back to the training data*, Findings of EMNLP. R. Grosse
# et al. (2023), arXiv 2308.03296, sections 3.2 and 5.2.

# %% [markdown] tags=["instructor"]
# **For teachers.** The filter by words: "polite" is hardly ever said where politeness is shown, so the texts that
# taught it may share no word with the question, and what is never a candidate is never found. Beside it: score a random
# sample of all documents exactly, and see how much of its top the filter would have kept (exercise 2); filter by
# embeddings as well; ask several questions that show politeness in different words. The share of the top would mislead
# next: a habit learned from a million texts has a long list and a small top, and the ten best are then examples, not
# causes.
