"""Training: pairs of source and target, and what learns from them."""
