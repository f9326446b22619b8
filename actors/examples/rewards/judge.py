"""A reward from a judge model at an OpenAI-compatible address, which grades each answer from 0 to 10.

The environment names the model: JUDGE_URL (up to /v1), JUDGE_MODEL, and OPENAI_API_KEY if a key is needed. Pictures are sent as
data URLs (`picture = "base64"` in the profile). The grades are printed on standard error, which the daemon's log keeps. If the
judge cannot be reached, the program ends; the daemon starts it again, and pauses the run if that does not help.
"""

import concurrent.futures
import json
import os
import re
import sys
import urllib.request

URL = os.environ.get("JUDGE_URL", "http://127.0.0.1:8000/v1").rstrip("/") + "/chat/completions"
MODEL = os.environ.get("JUDGE_MODEL", "default")
KEY = os.environ.get("OPENAI_API_KEY", "")
AT_A_TIME = 8
SYSTEM = "You grade answers. Think as long as you need, then end with a line `grade: N`, N from 0 (useless) to 10 (perfect)."


def question(item):
    """Returns the question to the judge about one completion."""
    text = f"Question:\n{item['prompt']}\n\nAnswer to grade:\n{item['answer']}"
    if item["reference"]:
        text += f"\n\nThe right answer:\n{item['reference']}"
    if "picture" not in item:
        return text
    url = "data:image/png;base64," + item["picture"]
    return [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]


def grade(item):
    """Returns the grade of one completion, from 0 to 1; None if the judge states none."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question(item)}]
    body = json.dumps({"model": MODEL, "messages": messages, "temperature": 0, "seed": 0}).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer " + KEY}
    with urllib.request.urlopen(urllib.request.Request(URL, body, headers), timeout=50) as reply:
        said = json.load(reply)["choices"][0]["message"]["content"]
    found = re.findall(r"grade:\s*(10|\d)(?:\.0*)?\b", said.lower())
    print(item["id"], "grade", found[-1] if found else "none", file=sys.stderr)
    return int(found[-1]) / 10 if found else None


with concurrent.futures.ThreadPoolExecutor(AT_A_TIME) as pool:
    for line in sys.stdin:
        batch = json.loads(line)
        print(json.dumps({"batch": batch["batch"], "values": list(pool.map(grade, batch["items"]))}), flush=True)
