"""The beginning of an input: what is not text is refused; and the first line that is not UTF-8."""

from __future__ import annotations

import codecs
import errno
import re
from typing import Final

from paco._view.console import fit


class BrokenInputError(OSError):
    """Raised if an input cannot be read any further. The text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EINVAL, text)


_BOM = b"\xef\xbb\xbf"  # the byte order mark, with which some Windows editors begin a file
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
_ICONV: Final = "convert it with: iconv -f {} -t UTF-8"
_NAMED: Final = "give a format that ends in {0}, as in --format lines{0}"
_PACKED: Final = "unpack it with: {}"
#: The first bytes of what is no text in UTF-8, what it is, and what to do.
_MARKS: Final[dict[bytes, tuple[str, str]]] = {
    b"\xff\xfe\0\0": ("UTF-32", _ICONV.format("UTF-32")),
    b"\0\0\xfe\xff": ("UTF-32", _ICONV.format("UTF-32")),
    b"\x1f\x8b": ("gzip", _NAMED.format(".gz")),
    **{b"BZh%d1AY&SY" % level: ("bzip2", _NAMED.format(".bz2")) for level in range(1, 10)},
    b"\xfd7zXZ\0": ("xz", _NAMED.format(".xz")),
    b"\x28\xb5\x2f\xfd": ("zstd", _NAMED.format(".zst")),
    b"\x04\x22\x4d\x18": ("lz4", _PACKED.format("lz4 -dc")),
    b"\x1f\x9d": ("compress", _PACKED.format("gzip -dc")),
    b"LZIP\x01": ("lzip", _PACKED.format("lzip -dc")),
    b"PK\x03\x04": ("a zip file, as .xlsx is", "export a table as CSV; unpack other files with: unzip -p"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z file", _PACKED.format("7z x -so")),
    b"%PDF-": ("a PDF", "extract its text"),
    b"PAR1": ("Parquet", "export its rows as JSON lines or CSV"),
}
#: UTF-16 without a mark: characters of ASCII, each with a zero byte.
_WIDE: Final = {"UTF-16LE": re.compile(rb"(?:[\x01-\x7f]\0){2}"), "UTF-16BE": re.compile(rb"(?:\0[\x01-\x7f]){2}")}
#: Text has no control characters but these, or a few. Of bytes that look random, a tenth are such characters.
_CONTROLS: Final = bytes({*range(32), 127} - {*b"\b\t\n\v\f\r\x1b"})
_LOOKED_AT: Final = 512
_END: Final = b"\n"
#: The most characters of a line in a message.
_SHOWN: Final = 60
_OTHER: Final = (
    "items have such a byte as text, like \\xff; to convert a file of Windows: iconv -f WINDOWS-1252 -t UTF-8"
)


class Beginning:
    """The first bytes of an input: drops a byte order mark, and refuses what is not text in UTF-8 or marked UTF-16.

    It also finds the first line that is not UTF-8.
    """

    def __init__(self) -> None:
        #: What to tell of the first line that is not UTF-8; empty if there is none.
        self.invalid = ""
        self._strict = codecs.getincrementaldecoder("utf-8")()
        self._line = 1
        self._wide: codecs.IncrementalDecoder | None = None  # of UTF-16
        self._held = b""
        self._decided = False

    def pass_on(self, chunk: bytes) -> bytes:
        """Return what can be split. An empty chunk ends the input; before that, part of a mark is held back.

        Raises:
            BrokenInputError: The input is not text. The message says what it is, and what to do.
        """
        if self._decided:
            return self._checked(chunk) if self._wide is None else self._wide.decode(chunk, not chunk).encode()
        first = self._held = self._held + chunk
        if chunk and any(len(first) < len(mark) and mark.startswith(first) for mark in (_BOM, *_UTF_16, *_MARKS)):
            return b""
        self._held, self._decided = b"", True
        if _is_utf_16(first):
            self._wide = codecs.getincrementaldecoder("utf-16")("backslashreplace")
            return self._wide.decode(first, not chunk).encode()
        _check_text(first)
        return self._checked(first.removeprefix(_BOM))

    def _checked(self, chunk: bytes) -> bytes:
        """Return the chunk, and look for the first line that is not UTF-8."""
        if self.invalid:
            return chunk
        try:
            self._strict.decode(chunk, not chunk)
        except UnicodeDecodeError as error:
            before, after = error.object[: error.start], error.object[error.start :]
            line = before.rpartition(b"\n")[2] + after.partition(b"\n")[0]
            text = fit(line.decode(errors="backslashreplace"), _SHOWN)
            self.invalid = f"line {self._line + before.count(_END):,} is not UTF-8: {text}; {_OTHER}"
        self._line += chunk.count(b"\n")
        return chunk


def _is_utf_16(first: bytes) -> bool:
    """Return whether an input is UTF-16, and not UTF-32 or lines of bytes, the first of which happens to begin so."""
    marked = first.startswith(_UTF_16) and not first.startswith(tuple(_MARKS))
    return marked and (b"\n" not in first or "\n" in first.decode("utf-16", "replace"))


def _check_text(first: bytes) -> None:
    what, remedy = next((known for mark, known in _MARKS.items() if first.startswith(mark)), ("", ""))
    wide = next((name for name, characters in _WIDE.items() if characters.match(first)), None)
    looked_at = first[:_LOOKED_AT]
    controls = len(looked_at) - len(looked_at.translate(None, _CONTROLS))
    if wide is not None:
        what, remedy = wide, _ICONV.format(wide)
    elif not what and b"\0" in first and b"\n" not in first:
        what, remedy = "binary data, or items that end in zero bytes", "for such items: --format null"
    elif not what and controls > max(1, len(looked_at) // 20):
        what, remedy = "binary data", "export it as text"
    if what:
        raise BrokenInputError(f"expected UTF-8, got {what}; {remedy}")
