"""What a link to the page shows in chats and on social sites: a title, a sentence, and a picture (Open Graph)."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vitlab.errors import ConfigError
from vitlab.text import percent

PREVIEW = "preview.png"
WIDTH, HEIGHT, EDGE, SIDE = 1200, 630, 60, 420  # pixels; the shape that sites ask for
MOST_BARS = 10
PAPER, INK, SOFT, LINE, BLUE = "#f4f2ec", "#1b2430", "#56606e", "#dedacf", "#0072b2"  # those of the page


def head(config: Mapping[str, Any], address: str | None, picture: bool) -> str:
    """Elements for the head of the page. ``config``: config.json of its first network. ``address``: where the page will
    be; some sites want the picture's whole address. ConfigError if it is none."""
    if address is not None and not address.startswith(("http://", "https://")):
        raise ConfigError(f"--address {address}: a web address begins with https:// or http://")
    title = title_of(config)
    facts = {"og:type": "website", "og:title": title, "og:description": about(config)}
    base = "" if address is None else address.removesuffix("index.html").rstrip("/") + "/"
    if base:
        facts["og:url"] = base
    if picture:
        facts |= {"og:image": base + PREVIEW, "og:image:width": str(WIDTH), "og:image:height": str(HEIGHT)}
        facts |= {"og:image:alt": title, "twitter:card": "summary_large_image"}
    return "".join(f'<meta property="{name}" content="{escape(value)}">\n' for name, value in facts.items())


def title_of(config: Mapping[str, Any]) -> str:
    """An invitation."""
    start = "Show a picture" if config["drawing"] is None else "Draw a digit"
    return f"{start} and watch {config['name']} read it"


def about(config: Mapping[str, Any]) -> str:
    """The network in one sentence."""
    top1 = config["test_top1"]
    right = "" if top1 is None else f", which is right on {percent(top1)} of its test images,"
    return f"A network of {config['params']:,} parameters{right} reads in your browser and shows what happens inside."


def preview(config: Mapping[str, Any], examples: Mapping[str, Any]) -> bytes:
    """A PNG: a known image that the network reads correctly (else the first), and its answer. ``examples``:
    examples.json."""
    labels, logits = examples["labels"], np.array(examples["logits"])
    right = [number for number, label in enumerate(labels) if label is not None and logits[number].argmax() == label]
    chosen = right[0] if right else 0
    shape = (examples["side"], examples["side"], examples["channels"])
    pixels = np.frombuffer(base64.b64decode(examples["images"][chosen]), np.uint8).reshape(shape)
    powers = np.exp(logits[chosen] - logits[chosen].max())
    return drawn(config, pixels, powers / powers.sum())


def drawn(config: Mapping[str, Any], pixels: Any, probabilities: Any) -> bytes:
    """The picture for an image and the probabilities of the classes."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((EDGE, 44), title_of(config), INK, ImageFont.load_default(46))
    image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.NEAREST), (EDGE, 136))
    best = int(probabilities.argmax())
    most = probabilities.argsort()[::-1][:MOST_BARS]
    row = SIDE / len(most)
    for place, index in enumerate(sorted(most) if len(probabilities) <= MOST_BARS else most):
        y = 136 + round((place + 0.5) * row)
        colour, letters = (BLUE, ImageFont.load_default(30)) if index == best else (SOFT, ImageFont.load_default(24))
        pen.text((560, y), str(config["classes"][index])[:12], colour, letters, anchor="lm")
        pen.rectangle((740, y - 11, 1000, y + 11), LINE)
        pen.rectangle((740, y - 11, 740 + round(260 * float(probabilities[index])), y + 11), colour)
        pen.text((WIDTH - EDGE, y), percent(float(probabilities[index])), colour, letters, anchor="rm")
    pen.text((EDGE, HEIGHT - 48), "vitlab: your own network, in your browser", SOFT, ImageFont.load_default(24))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return file.getvalue()
