"""Checkpoints of pytrees with Orbax, imported where it is used."""

import os
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


def save(manager: Any, step: int, content: Any, *, keep: int | None = None) -> None:
    """Writes a step, and waits until the disk has it.

    With `keep` all other steps but that one go first: those of processes that died
    before anybody used them, and of which one may have this number.
    """
    import orbax.checkpoint as ocp

    if keep is not None:
        for other in manager.all_steps():
            if other != keep:
                manager.delete(other)
    manager.save(step, args=ocp.args.StandardSave(content), force=True)
    manager.wait_until_finished()
    folder = Path(manager.directory) / str(step)
    for path in [*folder.rglob("*"), folder, folder.parent]:
        file = os.open(path, os.O_RDONLY)
        try:
            os.fsync(file)
        finally:
            os.close(file)


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
