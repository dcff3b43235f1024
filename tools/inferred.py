"""Check with ty or pyrefly that they infer and reject what tests/typing says, as mypy and pyright do.

A line that mypy must reject has a comment ``# type: ignore[...]``. Here, such a line must be rejected too, and no other
line. Comments of their own would make each of these lines too long. Where a checker is wrong or knows less than others,
the line has a comment ``# not ty: why`` or ``# not pyrefly: why``, and the checker must still be wrong.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = Path("tests/typing")
PYTHON = "3.11"

#: The arguments of each checker. Both print one line for each error, which begins with the file and the line.
COMMANDS = {
    "ty": ["check", "--output-format", "concise", "--python", sys.prefix, "--python-version", PYTHON],
    "pyrefly": [
        *("check", "--output-format", "min-text", "--preset", "default", "--python-version", PYTHON),
        *("--python-interpreter-path", sys.executable, "--search-path", "src", "--enabled-ignores", "pyrefly"),
        *("--ignore", "unused-coroutine"),  # it takes a stream, which need not be awaited, for a coroutine
    ],
}
_ERROR = re.compile(r"(?:ERROR )?(\S+?):(\d+):\d+.*")


def reported(checker: str, files: list[Path]) -> dict[tuple[str, int], str]:
    """Return the errors of a checker, by file and line."""
    command = [str(Path(sys.executable).parent / checker), *COMMANDS[checker], *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    found = [
        match
        for line in done.stdout.splitlines()
        if "error[" in line or line.startswith("ERROR ")
        if (match := _ERROR.match(line))
    ]
    if done.returncode not in {0, 1} or (done.returncode and not found):
        sys.exit(f"inferred: {checker} failed\n{done.stdout}{done.stderr}")
    return {(match[1], int(match[2])): match[0] for match in reversed(found)}


def rejects(line: str, checker: str) -> bool:
    """Return whether a checker must report an error in a line."""
    return ("# type: ignore[" in line) is not (f"# not {checker}: " in line)


def main(checker: str) -> int:
    """Check with ``checker``, print what is wrong, and return the exit code."""
    files = sorted(path.relative_to(ROOT) for path in (ROOT / FOLDER).glob("*.py"))
    errors, wrong, must = reported(checker, files), list[str](), 0
    for path in files:
        for number, line in enumerate((ROOT / path).read_text("utf-8").splitlines(), 1):
            error = errors.pop((str(path), number), "")
            must += rejects(line, checker)
            if bool(error) is not rejects(line, checker):
                wrong.append(error or f"{path}:{number}: {checker} must reject this: {line.strip()}")
    wrong += errors.values()  # in a file that nobody asked about
    print("\n".join([*wrong, f"{checker}: {len(wrong)} lines are wrong; {must} lines are rejected"]))
    return int(bool(wrong) or not must)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
