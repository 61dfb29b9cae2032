# %% [markdown]
# # 7. The word-order lab
#
# *Which training text made my model say this?* One of the strangest findings of Grosse et al. (2023, section 5.3.4): a sentence
# that says exactly the right thing can have no influence at all, if it says it in the other order. In this lesson you write such
# sentences and watch.
#
# **After this lesson you can**
# - describe what flipping two phrases does to influence, with a number;
# - average ratios without being fooled by small denominators;
# - find the place in a sentence where its influence lies, and explain the finding by it;
# - connect it to what a model that was trained in one direction can say.
#
# About 45 minutes. Lesson 6 helps.

# %%
import sys

sys.path[:0] = [".", ".."]

import altair as alt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from lessons import lesson_7 as lesson

import inflab

torch.set_num_threads(1)
alt.renderers.enable("svg")
ekfac = lesson.influence("forward")
queries = lesson.queries("forward")
print(f"{ekfac.problem.corpus.sizes['train']} sentences, {queries.sizes['query']} questions, such as: {str(queries['text'][0].item())!r}")

# %%
lesson.ask_flip()

# %% [markdown]
# The model is small; its people and countries are invented. A hundred facts were told once each, subject first: *The capital city
# of X is Y.* Other facts, about other countries, were told in all kinds of ways, so that no kind of sentence is new to it.
#
# ## The lab
#
# Choose a question, write a sentence from words that the model knows, and see what seeing it once more would do, as a share of what
# the sentence that taught the fact would do. Try to flip it. Try to reword it. Try one name alone.

# %%
lesson.lab()

# %% [markdown]
# The Explorer shows the same model with its whole corpus. Which sentences, besides the one that taught it, help a question most? Under
# *What if* you can edit any of them.

# %%
inflab.Explorer(ekfac, queries, k=5, tokenizer=lesson.tokenizer())

# %% [markdown]
# ## Thirty facts, eight sentences each
#
# One sentence proves little. Here are eight edits of thirty facts; none of them but the first was trained on.

# %%
edits = lesson.edits()
scores = ekfac.score(queries, train=edits, progress=False)
table = lesson.by_edit(scores).sel(edit=list(lesson.EDITS))
value = table.transpose("query", "edit").to_numpy()
first = edits.isel(train=np.flatnonzero(edits["fact"].to_numpy() == queries["fact"].to_numpy()[0]))
pd.DataFrame({
    "edit": table["edit"].to_numpy(),
    "sentence": [str(first["text"].to_numpy()[list(first["edit"].to_numpy()).index(name)]).strip() for name in table["edit"].to_numpy()],
    "influence, per unit weight": value[0].round(1),
})

# %% [markdown]
# **Exercise 1.** `value` is (queries, edits); the first column is the sentence as it was taught. Express each edit as a share of it.

# %%
def relative(value):
    """(queries, edits) -> the same shape, 1 in the first column."""
    # solution
    return value / value[:, :1]
    # stub
    #: raise NotImplementedError("each row by its own first column")
    # end


relative = lesson.check_relative(relative)

# %%
shares = pd.DataFrame(relative(value), columns=list(lesson.EDITS)).melt(var_name="edit", value_name="share")
alt.Chart(shares).mark_tick(thickness=1.5, color="#0072b2", opacity=0.6).encode(
    x=alt.X("share:Q", title="influence, as a share of the sentence that taught the fact", axis=alt.Axis(format="%"), scale=alt.Scale(clamp=True, domain=[-0.6, 1.6])),
    y=alt.Y("edit:N", title=None, sort=list(lesson.EDITS)),
).properties(width=420, height=220, title="Thirty facts; beyond the edges, ticks stand at the edge")

# %% [markdown]
# Some ratios are wild: their first column is small. A mean of ratios would be at the mercy of those.
#
# **Exercise 2.** Pool instead: the sum over facts of each edit, divided by the sum over facts of the first.

# %%
def pooled(value):
    """(queries, edits) -> one number for each edit."""
    # solution
    return value.sum(0) / value[:, 0].sum()
    # stub
    #: raise NotImplementedError("sum over facts first, then divide")
    # end


pooled = lesson.check_pooled(pooled)

# %%
rng = np.random.default_rng(0)
drawn = np.array([pooled(value[rng.integers(0, len(value), len(value))]) for _ in range(500)])
low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
frame = pd.DataFrame({"edit": list(lesson.EDITS), "share": pooled(value), "low": low, "high": high})
frame["order"] = ["flipped" if "flipped" in name else "one phrase" if "only" in name else "kept" for name in frame["edit"]]
base = alt.Chart(frame).encode(
    y=alt.Y("edit:N", title=None, sort=list(lesson.EDITS)),
    color=alt.Color("order:N", title="order of the names", scale=alt.Scale(range=["#d55e00", "#0072b2", "#767676"], domain=["flipped", "kept", "one phrase"])),
)
alt.layer(
    base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="influence, share of the taught sentence (95% interval over facts)", axis=alt.Axis(format="%")), x2="high:Q"),
    base.mark_point(filled=True, size=70).encode(x="share:Q", shape=alt.Shape("order:N", title="order of the names", scale=alt.Scale(domain=["flipped", "kept", "one phrase"]))),
).properties(width=420, height=220, title="The same words in another order")

# %% [markdown]
# More than 100%? A sentence that the model has never met has a larger gradient than one that it knows by heart. What counts is on
# which side of nothing an edit lies.
#
# ## Why? Look where the influence lies

# %%
lesson.ask_tokens()

# %% [markdown]
# `attribute` splits an influence by token. In this view (equation 31 of the paper) the influence at token $t$ is that of predicting
# token $t + 1$.
#
# **Exercise 3.** Which share of a sentence's influence lies where the *answer* is predicted?

# %%
def share_on_answer(influence_t, is_answer_t):
    """Both (tokens,); is_answer_t says which tokens are the answer: one number."""
    # solution
    return influence_t[:-1][is_answer_t[1:]].sum() / influence_t.sum()
    # stub
    #: raise NotImplementedError("mind: token t predicts token t + 1")
    # end


share_on_answer = lesson.check_share(share_on_answer)

# %%
taught = edits.isel(train=np.flatnonzero(np.isin(edits["edit"].to_numpy(), ["same", "flipped"])))
pair = ekfac.score(queries.isel(query=[0]), train=taught.isel(train=np.flatnonzero(taught["fact"].to_numpy() == queries["fact"].to_numpy()[0])), progress=False)
best = inflab.top(pair, 2, sign="absolute")
tokens = ekfac.attribute(queries.isel(query=[0]), best, train=taught, progress=False)
for rank in range(2):
    print(str(tokens["edit"].transpose("query", "rank").to_numpy()[0, rank]))
    display(inflab.plot.tokens(tokens.isel(rank=[rank])))

# %%
lesson.ask_loss()

# %% [markdown]
# ## What a model can say
#
# Influence says what training on a sentence would teach. So train on it: three models, told the same facts subject first, answer
# first, and in both orders. Then ask each in both directions.

# %%
lesson.ask_training()

# %%
found = pd.DataFrame(lesson.losses()).T.rename_axis("told").reset_index().melt("told", var_name="asked", value_name="loss")
base = alt.Chart(found).encode(
    x=alt.X("asked:N", title=None, axis=alt.Axis(labelAngle=0)),
    y=alt.Y("told:N", title="facts were told", sort=["forward", "reversed", "both"]),
)
alt.layer(
    base.mark_rect().encode(color=alt.Color("loss:Q", title="nat", scale=alt.Scale(scheme="blues", reverse=True))),
    base.mark_text(fontSize=13).encode(text=alt.Text("loss:Q", format=".2f"), color=alt.condition("datum.loss < 4", alt.value("white"), alt.value("#222"))),
).properties(width=260, height=150, title="Loss of the answer, nat (0: certain)")

# %% [markdown]
# What influence predicted of one more sentence, training confirms for all of them: knowledge in one direction is no knowledge in the
# other.
#
# ## What to take along
#
# - Influence follows the *prediction that is practised*, not the fact that is stated.
# - Keep the order and change the words: much stays. Keep the words and change the order: it goes.
# - A top list can miss the document that, to a person, says it best. Absence from the list is no proof of absence.
#
# **Think on.** In the paper, translating the sentence into another language keeps part of its influence for large models, if the order is
# kept. Which languages would you choose to test that, and why? (Notebook 08 of the findings has an answer for a small model.)
#
# **Further reading.** R. Grosse et al. (2023), arXiv 2308.03296, section 5.3.4. L. Berglund, M. Tong, M. Kaufmann, M. Balesni,
# A. C. Stickland, T. Korbak and O. Evans (2023), *The reversal curse: LLMs trained on "A is B" fail to learn "B is A"*, arXiv 2309.12288.

# %% [markdown] tags=["instructor"]
# **For teachers.** Such that order and words can be told apart, two by two. With the order of English: Spanish or
# French (words in common) and Chinese (none). With another order: German subordinate clauses (words in common),
# Japanese, Turkish or Korean, whose verb comes last (none). What counts is which of the two phrases *comes first*,
# since a model learns to predict the later from the earlier, so look at the sentence itself, not at the language's
# name. And the model must have read enough of each language: where it cannot complete the sentence at all, missing
# influence says nothing about order.
