"""How far an answer can be trusted: intervals, stability, a lexical baseline, and the effect that was measured."""
