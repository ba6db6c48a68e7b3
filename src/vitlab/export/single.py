"""The page as one HTML file, which a browser opens from a disk or a mail: scripts, styles, networks and images inside.

Such a page can neither ask for a file nor start a worker from one. So its workers' scripts lie in it as text, and every
other file with gzip and in base64, in elements that resources.js finds. Its policy forbids every connection.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
from collections.abc import Mapping
from html import escape

from vitlab.export.bundle import MAIN, SHEET, START, main_of, scripts, style_sheet, worker_name
from vitlab.export.whole import ExportError

POLICY = re.compile(r'(<meta http-equiv="Content-Security-Policy" content=")[^"]*(">)')
STYLE_END = re.compile(r"</style", re.IGNORECASE)
LINE = 1 << 16  # characters of base64 in a line: editors and mail programs dislike longer ones


def single_file(page: Mapping[str, bytes], content: Mapping[str, bytes]) -> bytes:
    """index.html with all of ``page``, its own files, and of ``content``, the networks and images that it asks for.

    ExportError for code that cannot be joined.
    """
    html = page[START].decode()
    script, workers = scripts(page, main_of(html), start_worker)
    style = style_sheet(page)
    if STYLE_END.search(style):
        raise ExportError("the page cannot be one file: a style sheet holds </style")
    html, count = POLICY.subn(lambda match: match[1] + policy(script, style) + match[2], html)
    if count != 1 or "</head>" not in html or "</body>" not in html:
        raise ExportError(f"the page cannot be one file: {START} needs a policy, </head> and </body>")
    html = MAIN.sub("", SHEET.sub("", html)).replace("</head>", f"<style>{style}</style>\n</head>", 1)
    others = {name: data for name, data in page.items() if not name.endswith((".html", ".js", ".css"))}
    parts = [element(worker_name(path), code) for path, code in workers.items()]
    parts += [element(name, packed(data), ' data-packed=""') for name, data in (others | dict(content)).items()]
    start, end = html.rsplit("</body>", 1)
    return "".join([start, *parts, f"<script>{script}</script>\n</body>", end]).encode()


def start_worker(path: str) -> str:
    """The expression that starts a worker from the text of its element."""
    text = f"document.querySelector('script[data-file=\"{worker_name(path)}\"]').textContent"
    return f'new Worker(URL.createObjectURL(new Blob([{text}], {{ type: "text/javascript" }})))'


def policy(script: str, style: str) -> str:
    """The one script and the one style sheet, and nothing from anywhere, nor to anywhere."""
    return (
        f"default-src 'none'; script-src {digest(script)}; style-src {digest(style)}; img-src blob: data:; "
        "worker-src blob:; connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def digest(text: str) -> str:
    """How a policy names an inline script or style sheet."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def element(name: str, text: str, more: str = "") -> str:
    """An element that holds a file and that browsers neither show nor run."""
    return f'<script type="text/plain" data-file="{escape(name)}"{more}>{text}</script>\n'


def packed(data: bytes) -> str:
    """With gzip, in base64."""
    text = base64.b64encode(gzip.compress(data, mtime=0)).decode()
    return "\n".join(text[at : at + LINE] for at in range(0, len(text), LINE))
