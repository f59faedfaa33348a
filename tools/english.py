"""Check the English of docs, docstrings, comments and texts shown to people: words, turns of phrase, length of sentences.

It reads Python, Markdown, the comments of settings and units, the texts of alerts, and the titles of dashboards.

CONTRIBUTING.md has the rules. Usage: python tools/english.py [PATH ...], by default the whole project.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_WORDS = 25

EXCEPTIONS = {
    "docs/faults-report.md": "a run writes it: most of it are tables of what was injected",
    "docs/benchmarks.md": "a run writes it: tables of figures",
    "tests/project/test_english.py": "its texts are examples of refused English",
}
"""Files that are not checked, and why. There are at most twenty."""

CHECKED = (
    *("src", "tests", "benchmarks", "tools", "proof", "deploy", "config"),
    *("docs", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "pyproject.toml", "constraints.txt", "Makefile"),
)

SUFFIXES = {".py", ".md", ".json", ".toml", ".yml", ".yaml", ".service", ".cfg"}
"""The files of a folder that are checked."""

PHRASES = {
    r"who(?:m)?ever": "name the subject: the caller, the peer, another candidate",
    r"somebody|someone": "name the subject: another process, an operator, another candidate",
    r"nobody|no one": "name the subject, and say what is so: no process, no candidate",
    r"anew": "again; a new ...",
    r"for ever": "forever; until it is deleted",
    r"also (?:when|where|if)": "even if; including when",
    r"so that who": "name the subject",
    r"nothing of (?:it|them)": "say what is so",
    r"what lies": "name the subject",
    r"of (?:its|their|our|his) own": "its own ...",
    r"of (?:ours|theirs)|of (?:gRPC|etcd|trio|asyncio|Go|Python)'s(?=[\s]*[.,;:)])": "possessive before the noun",
    r"all the same": "even so; still",
    r"in vain": "without success; failed",
    r"but for": "except",
    r"in place of": "instead of",
    r"no longer than": "at most",
    r"none that": "say what is so",
    r"tells|told": "machines report, send, notify",
    r"(?:etcd|server|member|client|process|leader|candidate|machine|manager|peer) (?:says|said)": "machines report, respond",
    r"hears?|heard": "receives, received",
    r"believes?|believed": "considers valid; is valid",
    r"knows": "has, has recorded, stores",
    r"thinks|wants": "machines do neither",
    r"forgets?": "discards, drops",
    r"(?<!operator )(?<!user )(?<!users )(?<!people )(?<!person )who": "name the subject",
    r"seat": "leadership",
    r"once more": "again",
}
"""Refused phrases, each with what to write instead."""

FIRST_WORDS = {"What", "Whether", "How", "Who", "Whose", "Where", "Nothing", "Those", "Nobody", "Nowhere"}
"""No docstring begins with these: its first line says what a function does, or what a class is."""

SHOWN = {
    "debug", "info", "warning", "error", "exception", "critical", "echo", "Finding", "print", "Problem", "help",
}  # fmt: skip
"""Calls whose texts people read, in addition to exceptions."""

SHOWN_ARGUMENTS = {"help", "short_help", "epilog", "description"}
"""Arguments whose texts people read, whatever is called."""


@dataclass(frozen=True)
class Text:
    """A piece of prose, and where it begins."""

    path: Path
    line: int
    kind: str
    text: str


def of_module(path: Path) -> Iterator[Text]:
    """Yield a module's docstrings, comments and texts shown to people."""
    source = path.read_text()
    tree = ast.parse(source)
    seen: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            seen.add(id(node.value))
            yield Text(path, node.lineno, "docstring", node.value.value)
    yield from _comments(path, source)
    for node in ast.walk(tree):
        for shown in _shown(node):
            if (text := _literal(shown)) and " " in text.strip() and id(shown) not in seen:
                yield Text(path, shown.lineno, "text", text)
                seen.update(id(part) for part in ast.walk(shown))
        if isinstance(node, ast.JoinedStr):
            seen.update(id(part) for part in node.values)


def _shown(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what people may read: the messages in a call, its help texts, and all other strings that are sentences."""
    if isinstance(node, ast.Call):
        all_shown = _called(node) in SHOWN or _called(node).endswith("Error")
        yield from node.args if all_shown else ()
        yield from (keyword.value for keyword in node.keywords if all_shown or keyword.arg in SHOWN_ARGUMENTS)
    elif isinstance(node, ast.Constant | ast.JoinedStr) and _is_sentence(_literal(node)):
        yield node


def _is_sentence(text: str) -> bool:
    """Return whether a text has at least four words in one line, and no sign that only code has."""
    return len(text.split()) >= 4 and not set(text.strip()) & set("\n={}<>|$&")


def _called(node: ast.Call) -> str:
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(value) if isinstance(value, ast.Constant) else "X" for value in node.values)
    if isinstance(node, ast.BinOp):
        return _literal(node.left) + _literal(node.right)
    return ""


def _comments(path: Path, source: str) -> Iterator[Text]:
    lines: list[str] = []
    begin = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        text = re.sub(r"^#:?\s?|noqa: [A-Z0-9, ]+ ?-? ?|fmt: \w+|type: ignore.*", "", token.string)
        own_line = not token.line[: token.start[1]].strip()
        if lines and token.start[0] == last + 1 and own_line:
            lines.append(text)
        else:
            if lines:
                yield Text(path, begin, "comment", "\n".join(lines))
            lines, begin = [text], token.start[0]
        last = token.start[0]
    if lines:
        yield Text(path, begin, "comment", "\n".join(lines))


def of_page(path: Path) -> Iterator[Text]:
    """Yield the paragraphs, list items and table cells of a Markdown page, without its code."""
    fenced = False
    paragraph: list[str] = []
    begin = 0
    for number, line in enumerate([*path.read_text().splitlines(), ""], 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            line = ""  # noqa: PLW2901 - a fence ends a paragraph
        elif fenced:
            continue
        starts = re.match(r"\s*(?:[-*] |\d+\. |#|\||>)", line)
        if (not line.strip() or starts) and paragraph:
            yield Text(path, begin, "page", "\n".join(paragraph))
            paragraph = []
        if line.startswith("|"):
            for cell in line.strip("|").split("|"):
                if " " in cell.strip():
                    yield Text(path, number, "page", cell.strip())
        elif line.strip():
            if not paragraph:
                begin = number
            paragraph.append(line)


def of_settings(path: Path) -> Iterator[Text]:
    """Yield the comments of settings, units and build files, the texts of alerts, and the names of contracts."""
    lines = path.read_text().splitlines()
    block: list[str] = []
    for number, line in enumerate([*lines, ""], 1):
        code, sign, comment = re.sub(r"\"[^\"]*\"|'[^']*'", '""', line).partition("#")
        if block and (code.strip() or not sign or re.match(r"# \w+ = ", line)):
            yield Text(path, number - len(block), "comment", _INDENTED.sub("\n\n", "\n".join(block)))
            block = []
        if re.match(r"# \w+ = ", line):
            continue
        if sign and not code.strip():
            block.append(line.partition("#")[2].removeprefix(" "))
        elif sign:
            yield Text(path, number, "comment", comment.strip())
        if shown := re.match(r"(\s*)(?:summary:|description:|name =)\s*(.*)", line):
            indent, begin = shown.groups()
            folded = takewhile(partial(_is_indented, indent), lines[number:])
            yield Text(path, number, "text", " ".join([begin.strip(">-\"'"), *(one.strip() for one in folded)]))


def _is_indented(indent: str, line: str) -> bool:
    return line.startswith(indent + " ")


_INDENTED = re.compile(r"\n\n(?:  .*\n)+")
"""An example in a comment."""


def of_dashboard(path: Path) -> Iterator[Text]:
    """Yield the titles and descriptions of a dashboard."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if shown := re.match(r'\s*"(?:title|description)": "(.*)",?$', line):
            yield Text(path, number, "text", shown[1])


def sentences(text: str) -> Iterator[str]:
    """Split prose into sentences. Code in backticks is one word."""
    text = re.sub(r"^([ \t]*)(.*)::\n\n(?:\1[ \t]+\S.*\n|\n)+", r"\1\2.\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"``[^`]+``|`[^`]+`", "X", text)
    text = re.sub(r"\]\([^)]*\)|<[^>]+>", "]", text)
    text = re.sub(r"^\s*(?:[-*#>]+|\d+\.)\s+", "\n\n", text, flags=re.MULTILINE)
    for block in re.split(r"\n\s*\n|\n(?=\s*(?:Args|Raises|Returns|Attributes|Yields):)|\n(?=\s+\w+: )", text):
        yield from re.split(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9`])|:\n", block)


def problems(text: Text) -> Iterator[str]:
    """Yield what is wrong with a text."""
    prose = re.sub(r"\]\([^)]*\)", "]", re.sub(r"``[^`]+``|`[^`]+`", "X", text.text))
    for pattern, advice in PHRASES.items():
        for found in re.finditer(rf"\b(?:{pattern})(?!\w)", prose, re.IGNORECASE):
            yield f"{found.group()!r}: {advice}"
    if text.kind == "docstring" and (first := text.text.split(None, 1)[:1]) and first[0] in FIRST_WORDS:
        yield f"begins with {first[0]!r}: say what it does, in the imperative, or what it is"
    for sentence in sentences(text.text):
        words = re.findall(r"\d+(?:\.\d+)+|[\w'-]+", sentence)
        if len(words) > MOST_WORDS:
            yield f"{len(words)} words in one sentence: {' '.join(words[:8])} ..."


def texts(paths: list[Path]) -> Iterator[Text]:
    """Yield all texts of these files."""
    for path in paths:
        reader = {".py": of_module, ".md": of_page, ".json": of_dashboard}.get(path.suffix, of_settings)
        yield from reader(path)


def files(path: Path) -> list[Path]:
    """Return the files below a path that are checked."""
    found = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    return [file for file in found if not file.is_relative_to(ROOT) or str(file.relative_to(ROOT)) not in EXCEPTIONS]


def main() -> int:
    """Print each problem. Return 1 if there is any, otherwise 0."""
    given = [Path(one).resolve() for one in sys.argv[1:]] or [ROOT / one for one in CHECKED]
    paths = [file for one in given for file in files(one)]
    count: Counter[Path] = Counter()
    for text in texts(paths):
        for problem in problems(text):
            count[text.path] += 1
            print(
                f"{text.path.relative_to(ROOT) if text.path.is_relative_to(ROOT) else text.path}:{text.line}: {problem}"
            )
    print(f"{sum(count.values())} problems in {len(count)} of {len(paths)} files")
    return min(sum(count.values()), 1)


if __name__ == "__main__":
    raise SystemExit(main())
