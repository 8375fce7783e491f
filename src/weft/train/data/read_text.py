"""Text files: each is one document."""

from __future__ import annotations

import codecs
from collections.abc import Iterator

from weft.errors import DataError
from weft.train.data.examples import Example
from weft.train.data.files import DataFile

_OTHER_MARKS = {codecs.BOM_UTF16_LE: "UTF-16", codecs.BOM_UTF16_BE: "UTF-16"}


def read_text(file: DataFile) -> Iterator[Example]:
    """The one document of the file, or none where it is blank. Raises DataError when it is not UTF-8."""
    content = file.read()
    try:
        text = decode(content, str(file.path))
    except DataError:
        if file.lenient:
            return
        raise
    if text and not text.isspace():
        yield Example(text, str(file.path))


def read_lines(file: DataFile) -> Iterator[str]:
    """The lines of a file with their ends, one at a time, so that it may be of any size. Raises DataError."""
    begin = 0
    with file.open() as stream:
        for number, line in enumerate(stream, start=1):
            yield decode(line, str(file.path), number, begin)
            begin += len(line)


def decode(content: bytes, name: str, line: int = 1, begin: int = 0) -> str:
    """What a file has from `line` and byte `begin` on as text, without a mark of UTF-8 at the file's start.

    Raises DataError with the line.
    """
    for mark, encoding in _OTHER_MARKS.items():
        if begin == 0 and content.startswith(mark):
            raise DataError(f"{name}: expected text in UTF-8, got {encoding}; convert it to UTF-8.")
    try:
        return content.decode("utf-8" if begin else "utf-8-sig")
    except UnicodeDecodeError as error:
        line += content.count(b"\n", 0, error.start)
        raise DataError(
            f"{name}, line {line}: expected text in UTF-8, got byte 0x{content[error.start]:02x} at "
            f"offset {begin + error.start}; convert it to UTF-8."
        ) from error
