"""Make a captioned thumbnail: draw or decode an image, scale it, write it under /tmp and describe the result.

It carries one vulnerability on purpose (see `computed_values`), so that an attack is nothing but an event.
"""

from __future__ import annotations

import base64
import binascii
import ctypes
import hashlib
import io
import os
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

# Named after the user, so that one user's runs never meet files that belong to another.
OUTPUT = Path(f"/tmp/thumbnails-{os.getuid()}")
LARGE_PIXELS = 2_000_000

LIBC = ctypes.CDLL(None)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    """Return name, format, width, height, bytes and sha256 of the thumbnail, or what is wrong with it."""
    try:
        image = source_image(event["image"])
    except BadImage as error:
        return {"name": event["name"], "error": "BadImage", "message": str(error)}
    pixels = image.width * image.height
    image.thumbnail(tuple(event.get("size", (128, 128))))

    computed = computed_values(event, image)
    if caption := event.get("caption"):
        facts = {"name": event["name"], "width": image.width, "height": image.height}
        draw_caption(image, str(caption).format(**facts, **computed))

    OUTPUT.mkdir(mode=0o700, exist_ok=True)
    path = OUTPUT / Path(event["name"]).name
    image.save(path, format=event["format"])
    content = path.read_bytes()
    with Image.open(path) as written:
        width, height = written.size
    if pixels > LARGE_PIXELS:
        give_memory_back()
    return {
        "name": path.name,
        "format": event["format"],
        "width": width,
        "height": height,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "computed": computed,
    }


class BadImage(Exception):
    """The event's image cannot be decoded; the caller is told so and the function lives on."""


def source_image(source: dict[str, Any]) -> Image.Image:
    """Draw what `source` describes (gradient, stripes, noise, plain) or decode the image that it carries."""
    kind = source["kind"]
    if kind == "encoded":
        return decoded_image(source["data"])
    size = (int(source["width"]), int(source["height"]))
    colour = source.get("colour", "white")
    canvas = Image.new("RGB", size, colour)
    if kind == "gradient":
        canvas.paste("black", (0, 0), Image.linear_gradient("L").resize(size))
    elif kind == "stripes":
        pen = ImageDraw.Draw(canvas)
        for left in range(0, size[0], 20):
            pen.rectangle((left, 0, left + 9, size[1]), fill="black")
    elif kind == "noise":
        canvas.paste("black", (0, 0), Image.effect_noise(size, 80))
    elif kind != "plain":
        raise BadImage(f"unknown kind of image: {kind}")
    return canvas


def decoded_image(data: str) -> Image.Image:
    """Decode base64 text that holds an image file of any format Pillow reads."""
    try:
        image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
        return image.convert("RGB")
    except binascii.Error as error:
        raise BadImage(f"not base64: {error}") from error
    except OSError as error:
        # Pillow's own complaints carry no errno; one from the kernel is not the image's fault.
        if error.errno is not None:
            raise
        raise BadImage(str(error).split(" <")[0]) from error


def computed_values(event: dict[str, Any], image: Image.Image) -> dict[str, Any]:
    """Work out the event's `computed` fields: {"ratio": "round(width / height, 2)"} gives {"ratio": 1.33}.

    VULNERABLE ON PURPOSE: "a little arithmetic for captions" done by eval is how such holes are born. Whoever
    writes the event runs Python in this process. Never do this in a real function.
    """
    names = {**event, "width": image.width, "height": image.height}
    return {key: eval(expression, dict(names)) for key, expression in event.get("computed", {}).items()}


def draw_caption(image: Image.Image, text: str) -> None:
    """Write `text` on a dark bar along the lower edge."""
    font = ImageFont.load_default(size=max(8, image.height // 8))
    pen = ImageDraw.Draw(image)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    pen.rectangle((0, image.height - (bottom - top) - 6, image.width, image.height), fill="black")
    pen.text(((image.width - (right - left)) / 2, image.height - bottom - 3), text, fill="white", font=font)


def give_memory_back() -> None:
    """Let libc return what a large image left behind, since the environment stays warm (glibc only)."""
    if trim := getattr(LIBC, "malloc_trim", None):
        trim(0)
