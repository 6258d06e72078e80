"""Simulated people: a month of labelling, and the first labels."""
