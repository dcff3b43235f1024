"""Tools for the development of paco, run through `./dev`."""
