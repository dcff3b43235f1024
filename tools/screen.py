"""Write ``docs/live.svg``: the live view of ``paco map``, as a real terminal shows it.

    python -m tools.screen

It runs the command in tmux, waits for some seconds, and turns the text and colors of the terminal into an SVG.
"""

from __future__ import annotations

import html
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PICTURE: Final = ROOT / "docs" / "live.svg"
COLUMNS: Final = 88
#: What runs: one item in 301 fails, and each takes between 20 and 150 ms.
JOBS: Final = """
import asyncio, zlib

async def fetch(item):
    number = zlib.crc32(item.encode())
    await asyncio.sleep(0.02 + number % 130 / 1000)
    if number % 301 == 0:
        raise ConnectionError("refused")
    return {"bytes": number % 4096}
"""
COMMAND: Final = "paco map jobs.py:fetch urls.txt --limit 100 --rate 600/s --retries 2 --output out.jsonl"
#: The 8 colors of a terminal, and their bright forms, readable on the background below.
COLORS: Final = ["#6b7280", "#f87171", "#4ade80", "#facc15", "#60a5fa", "#f472b6", "#22d3ee", "#e5e7eb"]
BACKGROUND, FOREGROUND, DIM = "#111827", "#e5e7eb", "#9ca3af"
#: An escape sequence that sets colors and weights.
STYLE: Final = re.compile(r"\x1b\[([\d;]*)m")


def tmux(*command: str) -> str:
    """Run a command of tmux on a server of its own."""
    return subprocess.run(
        ["tmux", "-L", "paco-screen", *command],  # noqa: S607 - whichever tmux is on the path
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout


def capture() -> list[str]:
    """Run the command in a terminal and return the lines that are on it, with their colors."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs.py").write_text(JOBS, "utf-8")
        Path(folder, "urls.txt").write_text("".join(f"https://example.org/{n}\n" for n in range(10_000)), "utf-8")
        python = f"PYTHONPATH={shlex.quote(str(ROOT / 'src'))} {shlex.quote(sys.executable)} -m {COMMAND}"
        # tmux draws its own status line at the bottom: off. The size is that of the picture.
        tmux("-f", "/dev/null", "new-session", "-d", "-x", str(COLUMNS), "-y", "6", "-c", folder, f"{python}; sleep 60")
        try:
            time.sleep(11)
            return [line for line in tmux("capture-pane", "-e", "-p").splitlines() if STYLE.sub("", line).strip()]
        finally:
            tmux("kill-server")


def style_of(codes: list[int], now: dict[str, str]) -> dict[str, str]:
    """Return the attributes of text after these codes."""
    codes = list(codes)
    while codes:
        code = codes.pop(0)
        if code == 0:
            now = {}
        elif code == 1:
            now = {**now, "font-weight": "bold"}
        elif code == 2:  # noqa: PLR2004 - the code of faint text
            now = {**now, "fill": DIM}
        elif code == 38:  # noqa: PLR2004 - a color of 256 or of 16 million
            now = {**now, "fill": extended(codes)}
        elif code == 39:  # noqa: PLR2004 - the default color
            now = {key: value for key, value in now.items() if key != "fill"}
        elif code // 10 in {3, 9}:
            now = {**now, "fill": COLORS[code % 10]}
    return now


def extended(codes: list[int]) -> str:
    """Take the arguments of code 38 from the front, and return the color."""
    if codes.pop(0) == 2:  # noqa: PLR2004 - red, green and blue follow
        return "#{:02x}{:02x}{:02x}".format(*(codes.pop(0) for _ in range(3)))
    number = codes.pop(0)
    if number < 16:  # noqa: PLR2004 - the colors that have names
        return COLORS[number % 8]
    if number >= 232:  # noqa: PLR2004 - the grays
        return "#{0:02x}{0:02x}{0:02x}".format(max(8 + 10 * (number - 232), 120))
    parts = [(number - 16) // 36, (number - 16) // 6 % 6, (number - 16) % 6]
    return "#{:02x}{:02x}{:02x}".format(*(0 if one == 0 else 55 + 40 * one for one in parts))


def spans(line: str) -> str:
    """Turn a line of the terminal into the parts of a line of SVG."""
    now: dict[str, str] = {}
    parts = []
    for index, piece in enumerate(STYLE.split(line)):
        if index % 2:
            now = style_of([int(code or 0) for code in piece.split(";")], now)
        elif piece:
            attributes = "".join(f' {key}="{value}"' for key, value in now.items())
            parts.append(f"<tspan{attributes}>{html.escape(piece)}</tspan>")
    return "".join(parts)


def drawn(lines: list[str]) -> str:
    """Return the picture."""
    rows = [f'<tspan fill="#4ade80">$</tspan> {html.escape(COMMAND)}', *map(spans, lines)]
    plain = [STYLE.sub("", line).strip() for line in lines]
    height = 34 + 22 * len(rows)
    texts = "\n".join(
        f'<text x="16" y="{36 + 22 * index}" xml:space="preserve">{row}</text>' for index, row in enumerate(rows)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * 8 + 120} {height}" role="img"
 aria-labelledby="title desc" font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14">
<title id="title">The live view of paco map</title>
<desc id="desc">{html.escape(" / ".join(plain))}</desc>
<rect width="100%" height="100%" rx="10" fill="{BACKGROUND}"/>
<g fill="{FOREGROUND}">
{texts}
</g>
</svg>
"""


if __name__ == "__main__":
    PICTURE.write_text(drawn(capture()), "utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")
