"""Rows a second of each format of given data: Demask's readers and Python's own, on the same files, in turns.

    cargo build --release --locked -p demask-datasets --example read_rate
    python tests/benches/read_rate.py FOLDER [ROWS] [ROUNDS]        # wants pyarrow, webdataset, pillow

FOLDER takes the files; they are made where they are missing. What is compared gives the same: the words of every row, and of
a picture its 32 x 32 pixels. Demask's column is what a run's first pass does before duplicates and benchmarks are looked for.
"""

import gzip
import io
import json
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path

ROWS = int(sys.argv[2]) if len(sys.argv) > 2 else 50_000
ROUNDS = int(sys.argv[3]) if len(sys.argv) > 3 else 3
PICTURES = ROWS // 10
PROGRAM = Path(__file__).parents[2] / "target/release/examples/read_rate"


def talk(at):
    return {"messages": [{"role": "user", "content": f"How many are {at} birds and {at * 7 % 1000} birds in all?"},
                         {"role": "assistant", "content": f"There are {at + at * 7 % 1000} birds in all, as anyone can count."}]}


def picture(at):
    from PIL import Image
    image = Image.new("RGB", (32, 32), (at % 256, at // 256 % 256, 9))
    for x in range(32):
        image.putpixel((x, at % 32), (255, x * 8, at % 200))
    data = io.BytesIO()
    image.save(data, "PNG")
    return data.getvalue()


def make(folder):
    import pyarrow as pa
    import pyarrow.parquet as pq
    folder.mkdir(parents=True, exist_ok=True)
    lines = folder / "talks.jsonl"
    if not lines.exists():
        text = "".join(json.dumps(talk(at)) + "\n" for at in range(ROWS))
        lines.write_text(text)
        with gzip.open(folder / "packed.jsonl.gz", "wt", compresslevel=1) as out:
            out.write(text)
        pq.write_table(pa.Table.from_pylist([talk(at) for at in range(ROWS)]), folder / "talks.parquet")
        rows = [{"image": {"bytes": picture(at), "path": None}, "caption": f"picture {at}"} for at in range(PICTURES)]
        pq.write_table(pa.Table.from_pylist(rows), folder / "pictures.parquet")
        with tarfile.open(folder / "pictures.tar", "w") as tar:
            for at, row in enumerate(rows):
                for ending, data in (("png", row["image"]["bytes"]), ("txt", row["caption"].encode())):
                    member = tarfile.TarInfo(f"{at:06}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def pixels(data):
    from PIL import Image
    return Image.open(io.BytesIO(data)).convert("RGB").resize((32, 32)).tobytes()


def read_lines(path, opened=open):
    return sum(1 for line in opened(path, "rt") if [turn["content"] for turn in json.loads(line)["messages"]])


def read_parquet(path):
    import pyarrow.parquet as pq
    count = 0
    for batch in pq.ParquetFile(path).iter_batches(batch_size=1000):
        for row in batch.to_pylist():
            count += 1
            if "image" in row:
                pixels(row["image"]["bytes"])
    return count


def read_tar(path):
    import webdataset
    count = 0
    for row in webdataset.WebDataset(str(path), shardshuffle=False):
        count += 1
        row["txt"].decode(), pixels(row["png"])
    return count


def main():
    folder = Path(sys.argv[1])
    make(folder)
    cases = [("JSON lines", "jsonl", "talks.jsonl", read_lines),
             ("JSON lines, gz", "jsonl", "packed.jsonl.gz", lambda path: read_lines(path, gzip.open)),
             ("Parquet, turns", "parquet", "talks.parquet", read_parquet),
             ("Parquet, pictures", "parquet", "pictures.parquet", read_parquet),
             ("tar, pictures", "webdataset", "pictures.tar", read_tar)]
    print(f"{'format':18} {'demask rows/s':>14} {'Python rows/s':>14}")
    for name, kind, file, python in cases:
        ours, theirs = [], []
        for _ in range(ROUNDS):
            out = subprocess.run([PROGRAM, kind, folder / file], capture_output=True, text=True, check=True)
            rows, seconds = out.stdout.split()
            ours.append(int(rows) / float(seconds))
            began = time.monotonic()
            count = python(folder / file)
            theirs.append(count / (time.monotonic() - began))
            assert count == int(rows), (name, count, rows)
        print(f"{name:18} {statistics.median(ours):14,.0f} {statistics.median(theirs):14,.0f}")


main()
