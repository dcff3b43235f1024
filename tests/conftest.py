"""Async tests run on virtual time, under a leak check."""

pytest_plugins = ["paco.testing"]
