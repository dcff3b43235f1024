"""Objects that are counted while they are alive, to find what keeps them so."""

from __future__ import annotations


class Counted:
    """The base of a class; ``alive`` of the class is the number of its instances."""

    alive: int

    def __init_subclass__(cls):
        cls.alive = 0

    def __init__(self):
        type(self).alive += 1

    def __del__(self):
        type(self).alive -= 1
