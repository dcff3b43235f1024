"""The LLM batch keeps the limits of a local server that speaks as OpenAI does, and its budget, and goes on."""

from __future__ import annotations

import json
import threading
from datetime import datetime
from itertools import pairwise

import pytest

pytest.importorskip("openai", reason="needs openai")

pytestmark = [pytest.mark.realtime, pytest.mark.slow]  # importing the client takes more than a second


class Model:
    """Answers each prompt with 100 tokens, and the third request with 429 and half a second of Retry-After."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = []
        self.refused = False

    def __call__(self, request):
        prompt = json.loads(request.rfile.read(int(request.headers["Content-Length"])))["input"]
        with self.lock:
            if len(self.asked) == 2 and not self.refused:
                self.refused = True
                return 429, {"Retry-After": "0.5"}, b"{}"
            self.asked.append(prompt)
        text = {"type": "output_text", "text": prompt.upper(), "annotations": []}
        message = {"type": "message", "id": "1", "role": "assistant", "status": "completed", "content": [text]}
        usage = {"input_tokens": 40, "output_tokens": 60, "total_tokens": 100}
        answer = {"id": "1", "object": "response", "model": "small", "output": [message], "usage": usage}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def test_it_keeps_the_rates_waits_as_told_spends_its_budget_and_goes_on(serve, finished, tmp_path):
    model = Model()
    prompts, answers = tmp_path / "prompts.txt", tmp_path / "answers.jsonl"
    prompts.write_text("".join(f"what is {number}?\n" for number in range(120)))
    environ = {"OPENAI_BASE_URL": serve(model), "OPENAI_API_KEY": "none"}
    command = ["llm_batch.py", prompts, answers, "--tokens", 600_000, "--requests"]

    # One answer costs 40 * 0.25 + 60 * 2 = 130 millionths of a dollar.
    out = finished(*command, 600, "--dollars", 20 * 130e-6, environ=environ)
    first = len(model.asked)
    assert 20 <= first < 120
    assert f"{first} answers, 0 failed, of 120" in out
    records = [json.loads(line) for line in answers.read_text().splitlines()]
    starts = sorted(datetime.fromisoformat(record["start"]).timestamp() for record in records)
    assert max(later - one for one, later in pairwise(starts)) > 0.49  # the Retry-After of one request held all
    # 10 requests per second with a burst of 10: the last of any 20 starts a second after the first.
    assert all(later - one > 0.99 for one, later in zip(starts, starts[19:], strict=False))

    out = finished(*command, 60_000, "--dollars", 1, environ=environ)
    assert "120 answers, 0 failed, of 120" in out
    assert sorted(model.asked) == sorted(prompts.read_text().splitlines())
    records = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {one["input"]: one["result"] for one in records if one["ok"]} == {one: one.upper() for one in model.asked}
