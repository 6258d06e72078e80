"""Minimum-cost labelling of a whole data set: Qiu et al. (2023)."""
