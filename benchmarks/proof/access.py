"""Who must not get in: other host names and origins, wrong tokens, paths that lead elsewhere."""

from __future__ import annotations

from itertools import product

from benchmarks.proof.context import Context, Figures, figures
from benchmarks.proof.serving import PIXELS, TOKEN, exchange, request, served, statuses

HOSTS = (
    "evil.example", "evil.example:{}", "localhost.evil.example:{}", "127.0.0.1:{}.evil.example",
    "127.0.0.1.evil.example", "evil@localhost:{}x", "localhost:{}/x", "[::1]evil:{}", "0x7f000001.evil:{}",
)  # fmt: skip
ORIGINS = (
    "http://evil.example", "null", "file://", "http://127.0.0.1:{}.evil.example", "https://localhost.evil.example",
    "http://evil.example#127.0.0.1:{}", "http://127.0.0.1@evil.example",
)  # fmt: skip
PATHS = (
    "/../config.json", "/models/../config.json", "/%2e%2e/config.json", "/..%2fconfig.json",
    "/models/..%5cresult.json", "/models//etc/passwd", "//etc/passwd", "/models/%2fetc%2fpasswd", "/checkpoints",
    "/.lock", "/models/x/../../y", "/config.json\x00.png", "/....//config.json", "/models/./../environment.json",
)  # fmt: skip
TOKENS = (
    "", "Bearer", "Bearer ", "Bearer wrong-wrong-wrong-wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN[:-1]}",
    f"Bearer {TOKEN}x", f"Bearer {TOKEN.upper()}", f"Bearer {TOKEN},{TOKEN}", "Bearer null", "Bearer \xff",
)  # fmt: skip
COOKIES = ("", "vitlab=", f"vitlab={TOKEN}", "vitlab=x; vitlab=y", "vitlab=null", 'vitlab="', "vitlab=%00")
ROUTES = (
    ("GET", "/"), ("GET", "/v1/model"), ("POST", "/v1/predict"), ("GET", "/models.json"), ("GET", "/metrics"),
    ("GET", "/openapi.json"), ("HEAD", "/"), ("GET", f"/?token={TOKEN[:-1]}"), ("GET", f"/v1/model?token={TOKEN}"),
)  # fmt: skip


def attack(context: Context) -> Figures:
    """All combinations; each must be refused, and those with the right name and token must get in."""
    failures: list[str] = []

    def ask(port: int, allowed: tuple[int, ...], what: str, method: str, path: str, **headers: str) -> None:
        answer = exchange(port, request(port, method, path, PIXELS, **headers))
        codes = statuses(answer or b"")
        good = codes[0] in allowed if codes else 200 not in allowed
        failures.append("" if good else f"{what}: {method} {path} got {codes[:1] or 'no answer'}")

    with served(context) as (_, port):
        for host, (method, path) in product(HOSTS, ROUTES[: context.size(9, 3)]):
            ask(port, (400, 403), f"host {host}", method, path, Host=host.format(port))
        for origin in ORIGINS:
            ask(port, (403,), f"origin {origin}", "POST", "/v1/predict", Origin=origin.format(port))
        for site in ("cross-site", "same-site", "evil"):
            ask(port, (403,), f"site {site}", "POST", "/v1/predict", Sec_Fetch_Site=site)
        for path in PATHS:
            ask(port, (400, 404, 405, 422), "path", "GET", path)
        ask(port, (200,), "locked out", "POST", "/v1/predict")
        ask(port, (200,), "locked out", "POST", "/v1/predict", Origin=f"http://127.0.0.1:{port}")
        ask(port, (200,), "locked out", "GET", "/v1/model", Host=f"localhost:{port}")
    with served(context, VITLAB_TOKEN=TOKEN) as (_, port):
        for token, (method, path) in product(TOKENS, ROUTES):
            ask(port, (400, 401), f"token {token[:12]!r}", method, path, Authorization=token)
        for cookie in COOKIES:
            ask(port, (400, 401), f"cookie {cookie[:12]!r}", "POST", "/v1/predict", Cookie=cookie)
        ask(port, (200,), "locked out", "POST", "/v1/predict", Authorization=f"Bearer {TOKEN}")
        ask(port, (303,), "locked out", "GET", f"/?token={TOKEN}")
        ask(port, (200,), "locked out", "GET", "/livez")
    return figures(failures, len(failures))
