"""The page's modules joined into one script: Node runs both forms and must say the same."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vitlab.export.bundle import bundled, pieces
from vitlab.export.web import page_files
from vitlab.export.whole import ExportError

HTML = b"""<!doctype html>
<head>
<link rel="stylesheet" href="one.css">
<link rel="stylesheet" href="more/two.css">
<script type="module" src="main.js"></script>
</head>
"""
MAIN = r"""// Comments go: import { a } from "./nowhere.js";
import { first, Second as Other, third } from "./lib/first.js";
import * as whole from "./lib/whole.js";
import {
  long, // a comment within
  list,
} from "./lib/whole.js";

/* Another
   comment */
const text = "// no comment, 'nor' this: /* */";
const nested = `line one
    line two ${[1, 2].map((n) => `<${n}${"}"}>`).join(`/*`)} // kept
  import { b } from "./c.js";`;
const pattern = text.replace(/[/"'`]\/|\/\//g, "!") + 8 / 2 / 2;
const object = { import: 3, export: 5 };
console.log(text, nested, pattern, object.import, object.export);
console.log(first(7), new Other().name, third, whole.long, long, list, /* inside */ typeof whole.hidden);
"""
FIRST = """import { long } from "./whole.js";

/** @param {number} x */
export function first(x) {
  return (
    x / // halves
    2 + long
  );
}
export class Second {
  name = "second";
}
export const third = [..."abc"].map((letter) => letter.toUpperCase());
"""
WHOLE = """export const long = 11;
export async function* list() {}
const hidden = 13;
"""
SMALL = {
    "index.html": HTML,
    "one.css": b"a { /* c */\n  color: red;\n}\n",
    "more/two.css": b'b {\n  background: url("data:,//x");\n}\n',
    "picture.png": b"png",
    "main.js": MAIN.encode(),
    "lib/first.js": FIRST.encode(),
    "lib/whole.js": WHOLE.encode(),
}


def run(script: Path) -> str:
    """What Node prints."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not installed")
    return subprocess.run([node, str(script)], check=True, capture_output=True, text=True, timeout=30).stdout


def test_the_joined_script_does_what_its_modules_do(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"type": "module"}')
    for name, data in SMALL.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    made = bundled(SMALL)
    (tmp_path / "joined.cjs").write_bytes(made["page.js"])
    said = run(tmp_path / "main.js")
    assert run(tmp_path / "joined.cjs") == said
    assert "14.5 second [ 'A', 'B', 'C' ] 11 11" in said
    assert b"Comments go" not in made["page.js"]


def test_the_page_asks_for_one_script_and_one_style_sheet() -> None:
    made = bundled(SMALL)
    assert sorted(made) == ["index.html", "page.css", "page.js", "picture.png"]
    html = made["index.html"].decode()
    assert html.count("<link") == html.count("<script") == 1
    assert made["page.css"] == b'a {\ncolor: red;\n}\nb {\nbackground: url("data:,//x");\n}\n'


def test_each_worker_has_its_own_script() -> None:
    start = 'new Worker(new URL("./lib/{}.js", import.meta.url), {{ type: "module" }});\n'
    main = "".join(map(start.format, ("first", "whole"))).encode()
    made = bundled(SMALL | {"main.js": main})
    assert made["page.js"].count(b"new Worker(") == 2
    assert b'new Worker("page-lib-first.js")' in made["page.js"]
    assert b"const long=11" in made["page-lib-first.js"]
    assert b"class Second" not in made["page-lib-whole.js"]
    with pytest.raises(ExportError, match="starts a worker"):
        bundled(SMALL | {"main.js": main, "lib/first.js": main.replace(b"./lib/", b"./")})


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('import one from "./lib/whole.js";', "import one from"),
        ('import "./lib/whole.js";', 'import "./lib/whole.js"'),
        ('const later = import("./lib/whole.js");', "const later = import"),
        ("const here = import.meta.url;", "import.meta.url"),
        ("export default 3;", "export default 3"),
        ("export let changing = 3;", "export let changing"),
        ("export const { a, b } = c;", "export const { a, b }"),
        ('export * from "./lib/whole.js";', "export [*] from"),
        ("await long();", "await long"),
        ("const text = 'never closed;", "never closed"),
        ("const text = `never closed;", "a text is not closed"),
        ('import { hidden } from "./lib/whole.js";', "lib/whole.js does not export hidden"),
        ('import { a } from "./lib/missing.js";', "lib/missing.js, which is missing"),
        ('import { first } from "./lib/first.js";', "main.js -> lib/first.js -> main.js"),
    ],
)
def test_what_it_does_not_know_it_refuses(line: str, reason: str) -> None:
    cycle = b'import { x } from "../main.js";\nexport const first = 3;\n'
    changed = {"lib/first.js": cycle} if "->" in reason else {}
    with pytest.raises(ExportError, match=reason):
        bundled(SMALL | changed | {"main.js": f"const a = 3;\n{line}\n".encode()})


def test_nothing_of_the_page_gets_lost() -> None:
    """The pieces of each module, put together, are the module."""
    for path, data in page_files().items():
        if path.endswith(".js"):
            assert "".join(text for _, text in pieces(path, data.decode(), 0)) == data.decode()


def test_spaces_go_from_code_and_stay_in_texts() -> None:
    lines = [
        'export const said = { one: "a = b, c" };',
        "export const sum = (a) => `${a - -a} : ${a ? 1 : 2}, and`;",
        "export const found = /a = b/.test(said.one) && 1 < 2;",
    ]
    made = bundled(SMALL | {"main.js": ("\n".join(lines) + "\n").encode()})["page.js"]
    for line in (
        b'const said={one:"a = b, c"};',
        b"const sum=(a)=>`${a - -a} : ${a ? 1 : 2}, and`;",
        b"const found=/a = b/.test(said.one)&&1 < 2;",
    ):
        assert line in made
