"""Everything at random on real loops, for hours."""
