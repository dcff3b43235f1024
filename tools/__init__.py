"""What works on the project, run through `./dev`."""
