"""The daemon's memory while a run streams a large source: resident at the most, by the number of rows.

    cargo build --release --locked --workspace --bins
    python3 tests/benches/stream_memory.py [ROWS ...]       # 100000 1000000; both with near duplicates looked for and without

A run checks every row of its source first (parsed, duplicates, benchmarks, lengths) and then draws from it by reading rows again
(`limits.source_memory = 0`). Printed are the peak of each part of the run and the seconds that it took.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMASK = ROOT / "target/release/demask"
PROFILE = """
name = "stream"
seed = 5
text_vocabulary = 400
pixels = 32
[engine]
device = "cpu"
dtype = "f32"
threads = 1
[model]
d_model = 32
n_heads = 2
n_layers = 1
mlp_hidden_size = 64
max_sequence_length = 128
[image_tokenizer]
codebook_bits = 6
norm_groups = 2
encoder = { ch = 4, ch_mult = [1, 1, 1, 1], num_res_blocks = [1, 1, 1, 1], resolution = 32, z_channels = 6 }
decoder = { ch = 4, ch_mult = [1, 1, 1, 1], num_res_blocks = [1, 1, 1, 1], resolution = 32, z_channels = 6 }
[budgets]
text_to_image = { prompt = 40, answer = 0, direct_answer = 0, codes = 16 }
text = { prompt = 80, answer = 40, direct_answer = 8, codes = 0 }
understand = { prompt = 64, answer = 40, direct_answer = 20, codes = 16 }
think_then_draw = { prompt = 24, answer = 16, direct_answer = 16, codes = 16 }
[limits]
source_memory = 0
near_duplicate = NEAR
[[source]]
name = "rows"
kind = "jsonl"
path = "PATH"
[[stage]]
name = "sft"
kind = "finetune"
steps = 200
batch = 8
"""


def resident(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024


def streamed(rows, near):
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        with open(folder / "rows.jsonl", "w") as out:
            for at in range(rows):
                mixed = at * 2654435761 % 2**32
                talk = [{"role": "user", "content": f"How many are {at} birds, {mixed} boats and {mixed * 7 % 9973} bees?"},
                        {"role": "assistant", "content": f"There are {mixed % 1000} of them."}]
                out.write(json.dumps({"messages": talk}) + "\n")
        profile = folder / "stream.toml"
        profile.write_text(PROFILE.replace("NEAR", near).replace("PATH", str(folder / "rows.jsonl")))
        home = ["--home", str(folder / "home")]
        demask = lambda *words: subprocess.run([DEMASK, *home, *words], capture_output=True, text=True)
        demask("daemon", "start")
        pid = json.loads(demask("daemon", "status", "--json").stdout)["pid"]
        idle, peaks, began, trained = resident(pid), {"check": 0, "train": 0}, time.time(), None
        run = subprocess.Popen([DEMASK, *home, "run", "--headless", "--from-scratch", "--profile", profile],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while run.poll() is None:
            if trained is None and "1" in demask("query", "--format", "csv", "SELECT count(*) > 0 FROM v_metric").stdout:
                trained = time.time() - began
            part = "check" if trained is None else "train"
            peaks[part] = max(peaks[part], resident(pid))
            time.sleep(0.1)
        demask("daemon", "stop")
        if run.returncode:
            raise SystemExit(f"the run ended with {run.returncode}")
        print(f"{rows:>9,} rows, near_duplicate {near}: idle {idle:.0f} MiB, while they are checked {peaks['check']:.0f} MiB "
              f"({trained or 0:.0f} s), while they are trained on {peaks['train']:.0f} MiB", flush=True)


for near in ("2.0", "0.8"):
    for rows in [int(word) for word in sys.argv[1:]] or [100_000, 1_000_000]:
        streamed(rows, near)
