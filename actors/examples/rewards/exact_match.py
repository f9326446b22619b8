"""A reward in ten lines: 1 for a right answer, else 0."""

import json
import sys

for line in sys.stdin:
    batch = json.loads(line)
    same = (item["answer"].strip() == item["reference"].strip() for item in batch["items"])
    print(json.dumps({"values": [float(one) for one in same]}), flush=True)
