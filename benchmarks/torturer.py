"""Run the torture scenarios on one library and one lane, and print a line of JSON before and after each scenario.

`scorecard` runs this as a separate process, so that it can kill a scenario that hangs or fills the memory, and start a
new process at the next scenario.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import logging
import os
import resource
import sys
import warnings
from typing import Any, NoReturn

from tests.torture.kit import Lane, Library, NotThere, Scenario, lane, scenarios
from tests.torture.ours import PACO
from tests.torture.tools import first_line

MEMORY = 2 * 2**30


def library(name: str) -> Library:
    """Return the library of this name. The peers are imported only if it is one of them."""
    rivals: Any = [] if name == PACO.name else importlib.import_module("benchmarks.rivals").RIVALS
    return next(one for one in [PACO, *rivals] if one.name == name)


def perform(scenario: Scenario, subject: Library, on: Lane) -> tuple[str, str]:
    """Run a scenario, and return its verdict and the reason."""
    if lack := scenario.lacks(subject):
        return "n/a", f"no {lack}"
    try:
        scenario.run(subject, on)
    except NotThere as reason:
        return "n/a", str(reason)
    except BaseException as error:
        return "failed", first_line(error)
    return "passed", ""


def continue_in_new_process(options: argparse.Namespace, first: int) -> NoReturn:
    """Replace this process by a new one that continues at the scenario of this number."""
    eager = ["--eager"] if options.eager else []
    here = [sys.executable, "-m", "benchmarks.torturer"]
    os.execv(sys.executable, [*here, options.library, options.loop, *eager, "--first", str(first)])  # noqa: S606 - own command


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("loop", choices=["asyncio", "uvloop"])
    parser.add_argument("--eager", action="store_true", help="use the eager task factory")
    parser.add_argument("--first", type=int, default=0, help="the number of the first scenario")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    logging.disable(logging.NOTSET)
    logging.getLogger("asyncio").addHandler(logging.NullHandler())
    logging.getLogger("asyncio").propagate = False  # the leak check reads the log; do not print it
    subject, on = library(options.library), lane(options.loop, eager=options.eager)
    for number, scenario in enumerate(scenarios()):
        if number < options.first:
            continue
        print(json.dumps({"number": number, "area": scenario.area, "name": scenario.name}), flush=True)
        verdict, reason = perform(scenario, subject, on)
        print(json.dumps({"verdict": verdict, "reason": reason}), flush=True)
        gc.collect()  # so that the next scenario does not get the garbage of this one
        if MemoryError.__name__ in reason:  # Python does not return all of the memory
            continue_in_new_process(options, number + 1)


if __name__ == "__main__":
    sys.exit(main())
