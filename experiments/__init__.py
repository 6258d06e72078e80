"""Reproductions of published active-learning experiments with jal."""
