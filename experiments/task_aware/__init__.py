"""Task-aware active learning: Kim et al. (2020)."""
