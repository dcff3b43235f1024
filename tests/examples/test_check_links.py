"""The checker of links asks a local server for many of them at once, and tells the broken ones as it finds them."""

from __future__ import annotations

import threading

import pytest

from tests.patience import PATIENCE

pytestmark = pytest.mark.realtime

LINKS = 40


def test_it_checks_all_links_at_once_and_prints_the_broken_ones(serve, program, tmp_path):
    together = threading.Barrier(LINKS)

    def answer(request):
        together.wait(PATIENCE)  # until all are asked for
        return (404 if request.path in {"/3", "/8"} else 200), {}, b""

    address = serve(answer)
    links = tmp_path / "links.txt"
    links.write_text("\n".join([*(f"{address}/{number}" for number in range(LINKS)), "nonsense"]))
    process = program("check_links.py", links, "--limit", LINKS)
    out, err = process.communicate()
    *broken, last = out.splitlines()
    assert (process.returncode, last) == (1, f"3 of {LINKS + 1} links are broken"), err
    assert sorted(broken) == [
        f"{address}/3: HTTP Error 404: Not Found",
        f"{address}/8: HTTP Error 404: Not Found",
        "nonsense: unknown url type: 'nonsense'",
    ]


def test_a_broken_link_is_printed_before_the_others_have_an_answer(serve, program, tmp_path):
    printed = threading.Event()

    def answer(request):
        if request.path != "/broken":
            printed.wait(PATIENCE)
        return 404 if request.path == "/broken" else 200, {}, b""

    address = serve(answer)
    links = tmp_path / "links.txt"
    links.write_text(f"{address}/slow {address}/broken")
    process = program("check_links.py", links, environ={"PYTHONUNBUFFERED": "1"})
    assert process.stdout.readline() == f"{address}/broken: HTTP Error 404: Not Found\n"
    printed.set()
    assert process.communicate()[0] == "1 of 2 links are broken\n"
