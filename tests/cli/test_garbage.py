"""The command has garbage collected less often while items run, and puts everything back."""

from __future__ import annotations

import gc
import json

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

FILES = {
    "jobs.py": """
import gc

async def collection(item):
    return [gc.get_freeze_count() > 1000, gc.get_threshold()[0]]
"""
}


@pytest.fixture(autouse=True)
def as_python_has_it():
    """Have nothing exempt, and the collections of a fresh Python."""
    thresholds = gc.get_threshold()
    gc.unfreeze()
    gc.set_threshold(700, 10, 10)
    yield
    gc.set_threshold(*thresholds)


def collection(run):
    """Return what an item sees of the collector: whether older objects are frozen, and the first threshold."""
    return json.loads(run("jobs:collection", "jobs.py", "--head", 1, "--values")[1])


def test_while_items_run_older_objects_are_frozen_and_collections_are_rare(run):
    assert collection(run) == [True, 10_000]
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, (700, 10, 10))


def test_the_collector_settings_are_restored_after_an_error(run, monkeypatch):
    async def fail(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("paco._cli.run.Plan.drain", fail)
    assert run("jobs:collection", "jobs.py", "--head", 1)[0] == 130
    assert (gc.get_freeze_count(), gc.get_threshold()) == (0, (700, 10, 10))


@pytest.mark.parametrize("threshold", [0, 50_000])
def test_a_collector_that_is_off_or_already_rare_stays_so(run, threshold):
    gc.set_threshold(threshold, 10, 10)
    assert collection(run)[1] == threshold
    assert gc.get_threshold()[0] == threshold


def test_objects_frozen_before_stay_frozen(run):
    gc.freeze()
    collection(run)
    assert gc.get_freeze_count() > 0
    gc.unfreeze()
