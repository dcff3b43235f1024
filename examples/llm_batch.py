"""Ask a language model about every line of a file: as fast as it allows, until your money is spent.

    python examples/llm_batch.py prompts.txt answers.jsonl --dollars 5

Run it again after a crash, or with more money: it asks only what has no answer yet.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from pathlib import Path

import openai

import paco

MODEL = "gpt-5-mini"
DOLLARS_IN, DOLLARS_OUT = 0.25e-6, 2e-6  # for each token


def estimate(prompt: str) -> int:
    return len(prompt) // 4 + 500


async def main(args: argparse.Namespace) -> None:
    client = openai.AsyncOpenAI(max_retries=0)  # paco retries: every attempt pays the rates, and none sleeps in a slot
    requests = paco.Rate(args.requests, per=60, burst=10)
    tokens = paco.Rate(args.tokens, per=60, burst=args.tokens // 10, cost=estimate)
    budget = paco.Budget(args.dollars)
    limit = requests & tokens & budget & 50

    def pause(error: Exception) -> float | bool:
        if isinstance(error, openai.RateLimitError):
            seconds = float(error.response.headers.get("Retry-After", 5))
            limit.pause(min(seconds, 60))  # holds all, not only this one
            return seconds
        return isinstance(error, openai.APIConnectionError | openai.InternalServerError)

    @paco.settle
    @paco.retry(attempts=5, on=pause)
    async def ask(prompt: str) -> str | None:
        answer = await client.responses.create(model=MODEL, input=prompt)
        used = answer.usage
        assert used is not None
        tokens.charge(used.total_tokens - estimate(prompt))
        budget.charge(used.input_tokens * DOLLARS_IN + used.output_tokens * DOLLARS_OUT)
        return answer.output_text

    prompts = args.prompts.read_text("utf-8").splitlines()
    with paco.progress(), budget.gate.closes_on(signal.SIGINT):  # Ctrl-C loses no answer that is paid for
        done, failed = paco.partition(await paco.map(ask, prompts, limit=limit).journal(args.answers))
    print(f"{len(done)} answers, {len(failed)} failed, of {len(prompts)}; spent ${budget.spent:.2f}")
    if budget.gate.closed:
        print("stopped early: run it again to go on")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompts", type=Path, help="a file with one prompt on each line")
    parser.add_argument("answers", type=Path, help="the file that gets the answers, as JSON Lines")
    parser.add_argument("--dollars", type=float, required=True, help="what this run may spend")
    parser.add_argument("--requests", type=int, default=500, help="requests per minute")
    parser.add_argument("--tokens", type=int, default=200_000, help="tokens per minute")
    asyncio.run(main(parser.parse_args()))
