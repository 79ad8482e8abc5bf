"""A small WebDataset shard of drawn photographs with five captions each."""

import io
import json
import tarfile
from pathlib import Path

from PIL import Image, ImageDraw

THINGS = ("dog", "cat", "bird", "horse", "boat", "child")


def write_shard(path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for number, thing in enumerate(THINGS):
            picture, out = Image.new("RGB", (64, 64), (40 * number, 120, 90)), io.BytesIO()
            ImageDraw.Draw(picture).ellipse((5, 5, 20 + 6 * number, 50), fill=(200, 30 * number, 10))
            picture.save(out, "PNG")
            captions = [f"A {kind} {thing} runs on the grass ." for kind in ("big", "small", "brown", "wet", "young")]
            for name, data in ((f"{number}.png", out.getvalue()), (f"{number}.json", {"captions": captions})):
                content = data if isinstance(data, bytes) else json.dumps(data).encode()
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return path
