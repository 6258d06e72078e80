"""Deep active learning as pure JAX functions."""

__version__ = "0.1.0"
