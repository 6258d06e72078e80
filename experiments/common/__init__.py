"""What the experiments share: options, runs, comparisons by seed, figures, data."""
