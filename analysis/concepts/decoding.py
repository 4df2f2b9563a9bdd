"""Decodes an uploaded file to text: UTF-8, or what its byte order mark says; other encodings are named, not guessed."""

import codecs

from analysis.errors import ConceptError

__all__ = ["decoded"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),  # Excel's “Unicode text”
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SHOWN = 60


def decoded(filename: str, content: bytes) -> str:
    """The text of a file.

    Bytes that are not UTF-8 are some letters in Windows-1252 and others in Windows-1251, so they are not guessed at: the
    error shows how the line would read in the likeliest encoding.

    Raises:
        ConceptError: the content is neither UTF-8 nor marked as UTF-16 or UTF-32 (names the likeliest encoding).
    """
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise ConceptError(
                f"{filename} is marked as {encoding.upper()}, but is not ({error.reason}). Save it as UTF-8."
            ) from error
        before, after = content[: error.start], content[error.start :]
        line = before.rpartition(b"\n")[2] + after.partition(b"\n")[0]
        raise ConceptError(
            f"{filename} is not UTF-8 text: line {before.count(bytes([10])) + 1} reads "
            f"“{line.decode('cp1252', 'replace').strip()[:_SHOWN]}” if the file is Windows-1252 (Latin-1). Save it as UTF-8: "
            "“CSV UTF-8” in Excel, or iconv -f WINDOWS-1252 -t UTF-8."
        ) from error
    if "\0" in text:
        raise ConceptError(f"{filename} is not UTF-8 text; it looks like UTF-16 without a mark. Save it as UTF-8.")
    return text
