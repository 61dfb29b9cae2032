"""Does it tell the truth: responses, retrained models and what each method predicted of them, on small real data."""
