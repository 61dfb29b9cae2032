"""Ground truth to hold any method against: responses, retraining, exact derivatives through training."""
