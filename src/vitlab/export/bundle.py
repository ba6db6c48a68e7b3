"""The page's modules joined: one script, one script for each worker, one style sheet, so that it loads in few requests.

A browser needs a request for each module, and learns of the next ones only when it has read the previous ones. This
joins them in the order of their imports, each in a separate function, without comments, indentation and most spaces. It
knows the style that biome enforces in ``page/`` and the few forms of import and export that the page uses; for anything
else it raises ExportError, which names the line.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from posixpath import dirname, join, normpath

from vitlab.export.whole import ExportError

START = "index.html"
SCRIPT, STYLE = "page.js", "page.css"

SHEET = re.compile(r'<link rel="stylesheet" href="([^":]+)">\n')
MAIN = re.compile(r'<script type="module" src="([^":]+)"></script>\n')

IMPORT = re.compile(r'^import (?:\{([^{}]*)\}|\* as (\w+)) from "([^"\n]+)";\n', re.MULTILINE)
NAME = re.compile(r"(\w+)(?: as (\w+))?")
EXPORT = re.compile(r"^export (?=(?:async )?function\*? ?(\w+)\(|(?:const|class) (\w+)\b)", re.MULTILINE)
WORKER = re.compile(r'new Worker\(\s*new URL\("([^"\n]+)", import\.meta\.url\),\s*\{ type: "module" \},?\s*\)')
UNKNOWN = re.compile(r"(?<![\w$.])(?:import|export)\b(?!:)")
AT_THE_TOP = re.compile(r"^(?:const .* = )?await\b.*$", re.MULTILINE)  # a function cannot wait there
IN_HTML = re.compile(r"</script|<!--", re.IGNORECASE)  # would end the script in a single file

PLAIN = re.compile(r"[^\"'`/{}]+")
STRING = re.compile(r"\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'")
COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
REGEX = re.compile(r"/(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\[\n])+/[a-z]*")
SPACED = re.compile(r" ?(=>|[=,:;?(){}&|]) ?")  # not + and -: "a - -b"; not < and !: "<!--" begins a comment
BEFORE_REGEX = re.compile(r"(?:[(,=:\[!&|?{;+<>*%-]|\breturn|\bcase|\bof|\bin|^)\s*$")


@dataclass(frozen=True)
class Import:
    """``names`` of the module ``other``, which are ``here``: the name of all, or a pattern as in {a, b: c}."""

    other: str
    names: list[str]
    here: str


@dataclass(frozen=True)
class Module:
    """``code``: without its imports and the word export."""

    code: str
    imports: list[Import]
    exports: list[str]
    workers: list[str]


def bundled(page: Mapping[str, bytes]) -> dict[str, bytes]:
    """The files to deliver of ``page``, which are its own files by address: index.html asks for the joined script and
    style sheet; what is neither a module nor a style sheet stays. ExportError for code in a form that is not known."""
    html = page[START].decode()
    script, workers = scripts(page, main_of(html), lambda path: f'new Worker("{worker_name(path)}")')
    html = SHEET.sub("", html).replace("</head>", f'<link rel="stylesheet" href="{STYLE}">\n</head>', 1)
    html = MAIN.sub(f'<script defer src="{SCRIPT}"></script>\n', html)
    kept = {name: data for name, data in page.items() if not name.endswith((".js", ".css"))}
    joined = {START: html, SCRIPT: script, STYLE: style_sheet(page)}
    joined |= {worker_name(path): code for path, code in workers.items()}
    return kept | {name: text.encode() for name, text in joined.items()}


def main_of(html: str) -> str:
    """The address of the module that index.html starts."""
    found = MAIN.findall(html)
    if len(found) != 1:
        raise ExportError(f"the page cannot be joined: {START} starts {len(found)} modules instead of one")
    return str(found[0])


def worker_name(path: str) -> str:
    """The file that holds the joined script of a worker."""
    return "page-" + path.replace("/", "-")


def style_sheet(page: Mapping[str, bytes]) -> str:
    """All style sheets of index.html, in its order, without comments and indentation."""
    sheets = "".join(text_of(page, name, START) for name in SHEET.findall(page[START].decode()))
    return re.sub(r"[ \t]*\n\s*", "\n", re.sub(r"/\*.*?\*/", "", sheets, flags=re.DOTALL)).lstrip()


def scripts(page: Mapping[str, bytes], main: str, start_worker: Callable[[str], str]) -> tuple[str, dict[str, str]]:
    """The script of the module ``main`` with all that it imports, and those of its workers by their modules.

    ``start_worker(path)``: the expression that starts a worker.
    """
    modules = in_order(page, main, start_worker)
    paths = sorted({worker for module in modules.values() for worker in module.workers})
    workers: dict[str, str] = {}
    for path in paths:
        own = in_order(page, path, start_worker)
        if any(module.workers for module in own.values()):
            raise ExportError(f"the page cannot be joined: the worker {path} starts a worker")
        workers[path] = joined(own)
    return joined(modules), workers


def in_order(page: Mapping[str, bytes], main: str, start_worker: Callable[[str], str]) -> dict[str, Module]:
    """``main`` and all that it imports, each after what it imports itself."""
    modules: dict[str, Module] = {}

    def visit(path: str, by: tuple[str, ...]) -> None:
        if path in by:
            raise ExportError(f"the page cannot be joined: a cycle of imports, {' -> '.join((*by, path))}")
        if path in modules:
            return
        module = read_module(path, text_of(page, path, by[-1] if by else START), start_worker)
        for one in module.imports:
            visit(one.other, (*by, path))
        check_names(path, module, modules)
        modules[path] = module

    visit(main, ())
    return modules


def check_names(path: str, module: Module, modules: Mapping[str, Module]) -> None:
    """ExportError if a module imports what another does not export."""
    for one in module.imports:
        for name in one.names:
            if name not in modules[one.other].exports:
                raise ExportError(f"{path}: the page cannot be joined: {one.other} does not export {name}")


def joined(modules: Mapping[str, Module]) -> str:
    """One script: each module is a constant, the object of its exports."""
    parts = ['"use strict";\n']
    for path, module in modules.items():
        parts.append(f"// {path}\nconst {constant(path)} = (() => {{\n")
        parts += [f"const {one.here} = {constant(one.other)};\n" for one in module.imports]
        parts.append(f"{module.code}return {{ {', '.join(module.exports)} }};\n}})();\n")
    return "".join(parts)


def constant(path: str) -> str:
    """The name of a module in the joined script; no name of the page's own starts with $."""
    return "$" + re.sub(r"\W", "_", path.removesuffix(".js"))


def text_of(page: Mapping[str, bytes], path: str, by: str) -> str:
    """A file's text; ExportError if the page does not have it."""
    if path not in page:
        raise ExportError(f"the page cannot be joined: {by} names {path}, which is missing")
    return page[path].decode()


def read_module(path: str, source: str, start_worker: Callable[[str], str]) -> Module:
    """The parts of one module; ExportError for an import, export or await of another form."""
    code = "".join(squeezed(path, source)).lstrip()
    imports: list[Import] = []
    workers: list[str] = []

    def take_import(match: re.Match[str]) -> str:
        names, whole, other = match.groups()
        pairs = NAME.findall(names or "")
        here = ", ".join(f"{name}: {new}" if new else name for name, new in pairs)
        imports.append(Import(beside(path, other), [name for name, _ in pairs], whole or f"{{ {here} }}"))
        return ""

    def take_worker(match: re.Match[str]) -> str:
        workers.append(beside(path, match[1]))
        return start_worker(workers[-1])

    code = IMPORT.sub(take_import, code)
    exports = [function or other for function, other in EXPORT.findall(code)]
    code = WORKER.sub(take_worker, EXPORT.sub("", code))
    bare = "".join(squeezed(path, code, blank=True))
    unknown = [line for line, rest in zip(code.split("\n"), bare.split("\n"), strict=True) if UNKNOWN.search(rest)]
    unknown += AT_THE_TOP.findall(source) + IN_HTML.findall(code)
    if unknown:
        raise ExportError(f"{path}: the page cannot be joined: {unknown[0]}")
    return Module(tight(path, code), imports, exports, workers)


def beside(path: str, other: str) -> str:
    """The address that a module at ``path`` means by ``other``."""
    return normpath(join(dirname(path), other))


def squeezed(path: str, source: str, blank: bool = False) -> Iterator[str]:
    """The code piece by piece without comments and indentation. ``blank``: the texts in it become empty."""
    before = ""
    for kind, text in pieces(path, source, 0):
        if kind == "comment":
            continue
        if kind == "text":
            piece = '""' + "\n" * text.count("\n") if blank else text
        else:
            piece = re.sub(r"[ \t]*\n\s*", "\n", text)
            if before.endswith("\n") or not before:
                piece = piece.lstrip()
        if piece:
            before = piece
            yield piece


def tight(path: str, code: str) -> str:
    """The code without the spaces around signs that need none; its texts stay."""
    kinds = groupby(pieces(path, code, 0), key=lambda piece: piece[0])
    runs = ((kind, "".join(text for _, text in run)) for kind, run in kinds)
    return "".join(SPACED.sub(r"\1", text) if kind == "code" else text for kind, text in runs)


def pieces(path: str, source: str, start: int) -> Iterator[tuple[str, str]]:
    """("code" | "text" | "comment", piece) of the source from ``start`` to its end or to a } too many."""
    at, depth, code = start, 0, ""
    while at < len(source):
        letter = source[at]
        found, kind = PLAIN.match(source, at), "code"
        if letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth < 0:
                return
            text = letter
        elif letter in "\"'" and (found := STRING.match(source, at)):
            kind, text = "text", found[0]
        elif letter == "`":
            kind, text = "text", template(path, source, at)
        elif letter == "/" and (found := COMMENT.match(source, at)):
            kind, text = "comment", found[0]
        elif letter == "/" and BEFORE_REGEX.search(code) and (found := REGEX.match(source, at)):
            kind, text = "text", found[0]
        elif letter == "/":
            text = letter
        elif found:
            text = found[0]
        else:
            raise ExportError(f"{path}: the page cannot be joined: {source[at:].splitlines()[0]}")
        yield kind, text
        code = (code + text)[-20:] if kind == "code" else code if kind == "comment" else '"'
        at += len(text)


def template(path: str, source: str, start: int) -> str:
    """The template literal that begins at ``start``, with what is nested in it."""
    at = start + 1
    while at < len(source) and source[at] != "`":
        if source.startswith("${", at):
            at += 2 + sum(len(text) for _, text in pieces(path, source, at + 2))
        elif source[at] == "\\":
            at += 1
        at += 1
    if at >= len(source):
        raise ExportError(f"{path}: the page cannot be joined: a text is not closed")
    return source[start : at + 1]
