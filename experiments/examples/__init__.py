"""Short scripts to read and to run, each on the digits inside scikit-learn."""
