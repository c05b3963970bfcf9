"""Text of users, made harmless for the formats that read some characters as their own."""

from __future__ import annotations

_MARKDOWN = str.maketrans(
    {"\n": " ", "\r": " ", "<": "&lt;", ">": "&gt;", "&": "&amp;"} | {c: f"\\{c}" for c in r"\`|*[]"}
)
_LATEX = str.maketrans(
    {c: f"\\{c}" for c in "&%_#${}"}
    | {"\\": r"\textbackslash{}", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}"}
    | {">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}", "\n": " ", "\r": " "}
    | {"−": "$-$", "∞": r"$\infty$", "×": r"$\times$", "–": "--", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$"}
)


def whole(text: str) -> str:
    """Return a text with U+FFFD for each half of a surrogate pair, which no file, page or tokenizer takes.

    Python makes such halves of the bytes of a file's name that are not in the encoding of the locale.
    """
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def csv_cell(value: object) -> object:
    """Return a value for a CSV cell that no spreadsheet takes for a formula.

    Numbers stay numbers; a text that begins as a formula does gets an apostrophe before it, which spreadsheets hide.

    Example:
        >>> csv_cell("=1+1"), csv_cell("-0.5"), csv_cell("@P5"), csv_cell(3.5), csv_cell("plain")
        ("'=1+1", '-0.5', "'@P5", 3.5, 'plain')
    """
    if not isinstance(value, str) or not value.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def markdown_text(value: object) -> str:
    r"""Return text for a line or a table cell of Markdown, with no markup and no HTML of its own.

    Example:
        >>> print(markdown_text("a|b <script>"))
        a\|b &lt;script&gt;
    """
    return str(value).translate(_MARKDOWN)


def latex_text(value: object) -> str:
    r"""Return text for LaTeX, with its special characters spelled out and signs as mathematics.

    Example:
        >>> print(latex_text("ema_2^a"), latex_text("−0.50"))
        ema\_2\textasciicircum{}a $-$0.50
    """
    return str(value).translate(_LATEX)
