"""Checkpoints of pytrees with Orbax, imported where it is used."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def require(who: str) -> Any:
    """Orbax, or an error that says who needs it."""
    try:
        import orbax.checkpoint as ocp
    except ImportError as error:
        raise ImportError(
            f"{who} needs Orbax: pip install 'jal[checkpoint]'"
        ) from error
    return ocp


def open_manager(folder: Path) -> Any:
    """Orbax's manager of a folder: a context manager; keeps the last two steps."""
    import orbax.checkpoint as ocp

    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, enable_async_checkpointing=False
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def save(manager: Any, step: int, content: Any) -> None:
    """Writes a step, in place of one of that number, and waits for the disk."""
    import orbax.checkpoint as ocp

    if step in manager.all_steps():
        manager.delete(step)
    manager.save(step, args=ocp.args.StandardSave(content), force=True)
    manager.wait_until_finished()


def restore(manager: Any, step: int, like: Any) -> Any:
    """Reads a step; `like` has its structure, and arrays or shapes and dtypes."""
    import orbax.checkpoint as ocp

    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def shape_of(leaf):
        if isinstance(leaf, np.ndarray):
            return leaf  # is read as one
        return jax.ShapeDtypeStruct(
            jnp.shape(leaf), jnp.result_type(leaf), sharding=device
        )

    args = ocp.args.StandardRestore(jax.tree.map(shape_of, like))
    return manager.restore(step, args=args)
