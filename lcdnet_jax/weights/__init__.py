"""Weights as files: loading, saving, cards, and the weights in the wheel."""
