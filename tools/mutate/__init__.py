"""Small faults in the engine, which the tests have to find."""
