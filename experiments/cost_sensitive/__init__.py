"""Cost-sensitive active learning: Bernatchez et al. (2022)."""
