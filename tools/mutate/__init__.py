"""Mutation testing: small faults in the engine that the tests must find."""
