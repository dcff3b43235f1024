"""The types that other modules share."""

from __future__ import annotations

import inspect

import paco


def test_a_signature_shows_an_optional_iterable_as_not_given():
    assert "iterable: 'Any' = <not given>," in str(inspect.signature(paco.map))
