"""The openai client and nothing else: what every pipeline is compared with. For bench.pipeline.

GATEWAY_URL=... python -m bench.bare_client --calls 400 --threads 1
"""

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from openai import OpenAI

from bench.figures import each_of

MESSAGES = [
    {"role": "system", "content": "You are Agent 1 (@a1), a member of the community Place. You like load."},
    {
        "role": "user",
        "content": "Write one new post for Place about something you know from your work. Do not repeat "
        "these earlier posts:\n" + "<text>A short post about the day.</text>\n" * 5 + "Plain text.",
    },
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pace", type=float, default=0, help="calls per second; 0: as many as go")
    chosen = parser.parse_args()
    client = OpenAI(base_url=os.environ["GATEWAY_URL"], api_key="none", max_retries=0)

    began = [time.monotonic()]

    def call(number: int) -> None:
        if chosen.pace:
            time.sleep(max(0.0, began[0] + number / chosen.pace - time.monotonic()))
        client.chat.completions.create(
            model="google/gemini-2.5-flash",
            messages=MESSAGES,  # type: ignore[arg-type]
            max_tokens=1024,
            temperature=0.9,
            extra_headers={"X-Request-Id": str(uuid4())},
        )

    with ThreadPoolExecutor(chosen.threads) as pool:
        list(pool.map(call, range(chosen.calls // 4)))  # connections, and whatever is built at first use
        cpu, began[0] = time.process_time(), time.monotonic()
        list(pool.map(call, range(chosen.calls)))
    took = time.monotonic() - began[0]
    print(json.dumps(each_of(chosen.calls, time.process_time() - cpu, took)))


if __name__ == "__main__":
    main()
