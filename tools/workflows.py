"""See that the workflows of CI are what GitHub reads, and that they give nothing away.

Their schemas come with check-jsonschema; zizmor looks for what an attacker would. Neither needs the network. Run it
with ``./dev check workflows``.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted(map(str, (ROOT / ".github" / "workflows").glob("*.yml")))
SCHEMA = [sys.executable, "-m", "check_jsonschema", "--builtin-schema"]
COMMANDS = [
    [*SCHEMA, "vendor.github-workflows", *WORKFLOWS],
    [*SCHEMA, "vendor.dependabot", str(ROOT / ".github" / "dependabot.yml")],
    [
        str(Path(sys.executable).with_name("zizmor")),
        "--offline",
        "--quiet",
        "--strict-collection",
        "--persona",
        "pedantic",
        str(ROOT),
    ],
]


def main() -> int:
    """Run all of them, and return how many have found something."""
    return sum(subprocess.run(command, check=False).returncode != 0 for command in COMMANDS)


if __name__ == "__main__":
    sys.exit(main())
