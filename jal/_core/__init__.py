"""What all parts share: numerics, distances, files, checkpoints, compilation."""
