"""Dense layers whose inputs are masked, with rules for many masks at once."""

import jax
import jax.numpy as jnp


@jax.custom_batching.custom_vmap
def masked_dense(x, mask, kernel):
    """(x * mask) @ kernel for x [B, D], mask [D], kernel [D, H]."""
    return (x * mask[None]) @ kernel


@masked_dense.def_vmap
def _masked_dense_rule(axis_size, in_batched, x, mask, kernel):
    """Keeps items in one matrix and folds masks into the weights.

    Over items: [A, B, D] becomes [A * B, D]. Over masks: one product with the A masked
    kernels side by side, so that no masked copy of x is ever made.
    """
    over_x, over_mask, over_kernel = in_batched
    if not over_kernel and over_x and not over_mask:
        rows = masked_dense(x.reshape(-1, x.shape[-1]), mask, kernel)
        return rows.reshape(axis_size, -1, kernel.shape[-1]), True
    if not over_kernel and over_mask and not over_x:
        masked = mask.T[:, :, None] * kernel[:, None, :]
        rows = x @ masked.reshape(kernel.shape[0], -1)
        rows = rows.reshape(x.shape[0], axis_size, kernel.shape[-1])
        return jnp.swapaxes(rows, 0, 1), True
    axes = tuple(0 if batched else None for batched in in_batched)
    plain = lambda x, mask, kernel: (x * mask[None]) @ kernel
    return jax.vmap(plain, in_axes=axes)(x, mask, kernel), True


# Columns that are multiplied at a time where only some of them are needed.
COLUMNS = 128


@jax.custom_batching.custom_vmap
def needed_dense(x, mask, kernel, needed):
    """(x * mask) @ kernel where needed [H], 0 elsewhere."""
    return jnp.where(needed[None], masked_dense(x, mask, kernel), 0)


@needed_dense.def_vmap
def _needed_dense_rule(axis_size, in_batched, x, mask, kernel, needed):
    """Over items as above; over masks, no column is computed that is not needed.

    The masked kernels stand side by side, those columns first that are needed, and are
    multiplied a block at a time until none is left. The values are those of
    `masked_dense`; what is saved is the share that the next layer drops.
    """
    over_x, over_mask, over_kernel, over_needed = in_batched
    if not over_kernel and over_x and not over_mask and not over_needed:
        rows = needed_dense(x.reshape(-1, x.shape[-1]), mask, kernel, needed)
        return rows.reshape(axis_size, -1, kernel.shape[-1]), True
    if over_kernel or over_x or not (over_mask and over_needed):
        axes = tuple(0 if batched else None for batched in in_batched[:3])
        y = jax.vmap(masked_dense, in_axes=axes, axis_size=axis_size)(x, mask, kernel)
        return jnp.where(jnp.expand_dims(needed, -2), y, 0), True
    width = kernel.shape[-1]
    total = axis_size * width
    size = min(COLUMNS, total)
    blocks = -(-total // size)
    order = jnp.argsort(~needed.reshape(-1), stable=True).astype(jnp.int32)
    filled = jnp.pad(order, (0, blocks * size - total))

    def multiply(block, products):
        columns = jax.lax.dynamic_slice(filled, (block * size,), (size,))
        masked = mask[columns // width] * kernel.T[columns % width]
        return products.at[block].set(x @ masked.T)

    used = -(-jnp.sum(needed, dtype=jnp.int32) // size)
    products = jnp.zeros((blocks, x.shape[0], size), x.dtype)
    products = jax.lax.fori_loop(0, used, multiply, products)
    place = jnp.argsort(order)
    rows = jnp.swapaxes(products, 0, 1).reshape(x.shape[0], -1)[:, place]
    rows = jnp.swapaxes(rows.reshape(-1, axis_size, width), 0, 1)
    return jnp.where(needed[:, None], rows, 0), True
