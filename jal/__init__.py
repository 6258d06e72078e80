"""Deep active learning as pure JAX functions."""
