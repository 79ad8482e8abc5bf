"""What the data sources cost: memory for many items, and samples/s on JPEG files against bare Pillow.

    python benchmarks/data.py [--items 10000000] [--photos 500] [--shards 'shards/*.tar'] [--json]

Memory: private memory (RssAnon) that opening a source and drawing 20,000 samples of it add, in a process of its own: a
memory-mapped table, and shards of 10,000 samples whose index is made up. Mapped pages of files can be dropped by the
system; they stand beside it. More than 100 MB is exit code 1. Speed: photos made up, or those of `--shards`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from textlens.train.data.files import FileData
from textlens.train.data.patterns import local_files
from textlens.train.data.tar_index import Endings, index_file, make_rows, save_index

LIMIT, DRAWN, PER_SHARD = 100, 20_000, 10_000
ENDINGS = Endings(("jpg", "jpeg", "png", "webp"), ("txt", "json"))


def jpeg(size: int, seed: int) -> bytes:
    """A photograph's weight: smooth colours under some grain."""
    rng = np.random.default_rng(seed)
    field = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((size, size), Image.BICUBIC)
    grain = np.asarray(field) + rng.normal(0, 6, (size, size, 3))
    out = io.BytesIO()
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(out, "JPEG", quality=90)
    return out.getvalue()


def jpegs(shards: str, number: int) -> list[bytes]:
    """The first JPEG files in these shards."""
    found: list[bytes] = []
    for path in local_files(shards):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".jpg") and len(found) < number:
                    found.append(tar.extractfile(member).read())
    return found


def write_shard(path: Path, photos: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for key, content in photos.items():
            for ending, data in (("jpg", content), ("txt", f"picture {key}".encode())):
                member = tarfile.TarInfo(f"{key}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def write_table(folder: Path, items: int) -> None:
    """A saved data set of `items` rows, written in pieces."""
    from datasets import Dataset

    picture = _tiny_gif()
    Dataset.from_dict({"image": [picture], "text": ["a"]}).save_to_disk(str(folder))
    (file,) = folder.glob("*.arrow")
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, _schema()) as writer:
        for first in range(0, items, 100_000):
            rows = range(first, min(first + 100_000, items))
            columns = [pa.array([picture] * len(rows)), pa.array([f"picture {row}" for row in rows])]
            writer.write_batch(pa.record_batch(columns, schema=_schema()))


def _schema() -> pa.Schema:
    return pa.schema([("image", pa.binary()), ("text", pa.string())])


def _tiny_gif() -> bytes:
    out = io.BytesIO()
    Image.new("L", (1, 1)).save(out, "GIF")
    return out.getvalue()


def write_indices(folder: Path, items: int) -> None:
    """Shards of one real sample each, and indices that say it is there 10,000 times."""
    folder.mkdir()
    for number in range(-(-items // PER_SHARD)):
        path = folder / f"{number:06d}.tar"
        write_shard(path, {"0": jpeg(8, 0)})
        with tarfile.open(path) as tar:
            image, text = tar.getmembers()
        place = (image.offset_data, image.size, text.offset_data, text.size, 0)
        keys = range(number * PER_SHARD, min(items, (number + 1) * PER_SHARD))
        save_index(index_file(str(path), ENDINGS), make_rows([(b"%012d" % key, *place) for key in keys]))


def memory(kind: str) -> float:
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(f"{kind}:")) / 1024


def measure_memory(small: str, large: str) -> dict[str, float]:
    """MB added by the large source, once a small one has loaded all libraries; seconds to open it."""
    source = FileData(small, held_out_share=0.5).open(image_size=64)
    source.sample(0, 0), source.held_out(1)
    private, mapped, start = memory("RssAnon"), memory("RssFile"), time.perf_counter()
    source = FileData(large).open(image_size=64)
    opened = time.perf_counter() - start
    for index in range(DRAWN):
        source.sample(index, 0)
    source.held_out(100)
    added = {"private_mb": memory("RssAnon") - private, "mapped_mb": memory("RssFile") - mapped}
    return {"items": source.size, **added, "open_seconds": opened}


def in_own_process(small: str, large: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", small, large]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def speeds(folder: Path, photos: list[bytes]) -> dict[str, float]:
    """Samples/s of bare Pillow, of an image folder and of shards, the best of three in turns."""
    (folder / "photos").mkdir()
    names = [f"{number:06d}" for number in range(len(photos))]
    for name, content in zip(names, photos, strict=True):
        (folder / "photos" / f"{name}.jpg").write_bytes(content)
    lines = [json.dumps({"file_name": f"{name}.jpg", "text": f"picture {name}"}) for name in names]
    (folder / "photos" / "metadata.jsonl").write_text("\n".join(lines))
    for first in range(0, len(names), 100):
        part = slice(first, first + 100)
        write_shard(folder / f"{first:06d}.tar", dict(zip(names[part], photos[part], strict=True)))
    specs = {"imagefolder": f"imagefolder:{folder / 'photos'}", "webdataset": f"webdataset:{folder}/*.tar"}
    sources = {name: FileData(spec, held_out_share=0.0).open(image_size=64) for name, spec in specs.items()}
    best: dict[str, float] = {}
    for turn in range(3):
        start = time.perf_counter()
        for name in names:
            Image.open(folder / "photos" / f"{name}.jpg").convert("RGB")
        seconds = {"bare Pillow": time.perf_counter() - start}
        for name, source in sources.items():
            start = time.perf_counter()
            for index in range(len(photos)):
                source.sample(index, turn)
            seconds[name] = time.perf_counter() - start
        best = {name: max(best.get(name, 0.0), len(photos) / took) for name, took in seconds.items()}
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000_000)
    parser.add_argument("--photos", type=int, default=500)
    parser.add_argument("--shards", help="take the photos from these")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure_memory(*args.measure)))
        return 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"XDG_CACHE_HOME": name, "HF_HOME": f"{name}/hf", "HF_DATASETS_CACHE": f"{name}/hf/datasets"}
        made = (jpeg(256, seed) for seed in range(args.photos))
        photos = jpegs(args.shards, args.photos) if args.shards else list(made)
        result = {"samples_per_second": speeds(folder, photos), "memory": {}}
        for kind, write in (("table", write_table), ("shards", write_indices)):
            sizes = {"small": 10, "large": args.items}
            for size, items in sizes.items():
                write(folder / f"{kind}-{size}", items)
            small, large = (f"{'webdataset:' * (kind == 'shards')}{folder}/{kind}-{size}" for size in sizes)
            result["memory"][kind] = in_own_process(small, large)
    if args.json:
        print(json.dumps(result))
    else:
        for kind, speed in result["samples_per_second"].items():
            print(f"{kind:12} {speed:9,.0f} samples/s")
        for kind, added in result["memory"].items():
            print(
                f"{kind:12} {added['items']:12,} items: {added['private_mb']:.0f} MB private, {added['mapped_mb']:.0f} "
                f"MB of mapped files, opened in {added['open_seconds']:.1f} s"
            )
    return int(any(added["private_mb"] > LIMIT for added in result["memory"].values()))


if __name__ == "__main__":
    raise SystemExit(main())
