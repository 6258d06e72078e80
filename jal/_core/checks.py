"""Checks of arguments that many functions share."""


def at_least_one(**numbers: int | None) -> None:
    """Checks that counts are at least 1; None stands for no limit.

    Args:
      **numbers: by the names of the arguments.

    Raises:
      ValueError: one of them is below 1.

    >>> at_least_one(steps=3, batch_size=0)
    Traceback (most recent call last):
    ValueError: batch_size=0; it must be at least 1
    """
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise ValueError(f"{name}={value}; it must be at least 1")
