"""Few labels over frozen features: Aggarwal et al. (2022)."""
