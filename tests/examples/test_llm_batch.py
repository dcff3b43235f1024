"""The LLM batch keeps the limits of a local server that speaks as OpenAI does, and its budget, and goes on."""

from __future__ import annotations

import json
import threading
import time

import pytest

pytest.importorskip("openai", reason="needs openai")

pytestmark = [pytest.mark.realtime, pytest.mark.slow]  # importing the client takes more than a second


class Model:
    """Answers each prompt with 100 tokens, and the third request with 429 and half a second of Retry-After."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = []
        self.refused_at = None
        self.times = []

    def __call__(self, request):
        prompt = json.loads(request.rfile.read(int(request.headers["Content-Length"])))["input"]
        with self.lock:
            self.times.append(time.monotonic())
            if len(self.times) == 3:
                self.refused_at = time.monotonic()
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
    prompts.write_text("".join(f"what is {number}?\n" for number in range(40)))
    environ = {"OPENAI_BASE_URL": serve(model), "OPENAI_API_KEY": "none"}
    # One answer costs 40 * 0.25 + 60 * 2 = 130 millionths of a dollar.
    command = ["llm_batch.py", prompts, answers, "--requests", 1200, "--tokens", 300_000, "--dollars"]

    out = finished(*command, 20 * 130e-6, environ=environ)
    first = len(model.asked)
    assert 20 <= first <= 30
    assert f"{first} answers, 0 failed, of 40" in out
    # After the refusal only the requests that were on their way come within its half second; the rates start ten.
    early = [one for one in model.times if model.refused_at < one < model.refused_at + 0.4]
    assert len(early) <= 10
    for index, one in enumerate(model.times):  # in any second at most 20 and the burst
        assert len([other for other in model.times[index:] if other < one + 0.9]) < 30

    out = finished(*command, 1, environ=environ)
    assert "40 answers, 0 failed, of 40" in out
    assert sorted(model.asked) == sorted(prompts.read_text().splitlines())
    records = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {one["input"]: one["result"] for one in records if one["ok"]} == {one: one.upper() for one in model.asked}
