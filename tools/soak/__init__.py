"""Soak test: random work on real event loops, for hours."""
