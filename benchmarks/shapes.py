"""The comparisons: a form of paco, and the peers that do the same."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks import libraries, peers
from benchmarks.peers import Peer, Streamer


@dataclass(frozen=True)
class Shape:
    """A form of the results (a list, a stream, …), paco's way to it, and the ways of the peers."""

    name: str
    ours: Peer
    peers: list[Peer]


#: Items per run for a peer that takes about 10 µs per item, and for one that takes tens of µs.
SOME, COSTLY = 30_000, 10_000

PLAIN = Peer("plain loop, no concurrency", peers.plain_loop)
BARE = Peer("bare tasks, static split", peers.bare_tasks)
POOL = Peer("worker pool by hand", peers.worker_pool)
GATHER = Peer("gather + Semaphore", peers.gather_semaphore)
FLOORS = (PLAIN, BARE, POOL)
IDEAL_CONSUMER = Peer("ideal: the consumer alone", peers.nothing_but_consuming)
IDEAL_HEAD = Peer("ideal: the first item alone", peers.nothing_but_the_first)

PACO_ORDERED = Streamer("async for ... in paco.map(...)", peers.paco_ordered)
PACO_AS_COMPLETED = Streamer("async for ... in paco.map(...).as_completed()", peers.paco_as_completed, ordered=False)
PACO_BUFFERED = Streamer("async for ... in paco.map(...).buffer(100)", peers.paco_buffered)
STREAMABLE = Streamer("streamable", libraries.streamable_ordered, packages=("streamable",))
AIOSTREAM = Streamer("aiostream", libraries.aiostream_ordered, COSTLY, packages=("aiostream",))
UNORDERED = [
    Streamer("streamable", libraries.streamable_as_completed, ordered=False, packages=("streamable",)),
    Streamer("pyper", libraries.pyper_workers, COSTLY, ordered=False, packages=("python-pyper",)),
    Streamer("aiotools + Semaphore", libraries.aiotools_as_completed, SOME, ordered=False, packages=("aiotools",)),
    Streamer("tqdm.asyncio + Semaphore", libraries.tqdm_as_completed, SOME, ordered=False, packages=("tqdm",)),
    Streamer("aiometer", libraries.aiometer_amap, COSTLY, ordered=False, packages=("aiometer",)),
    Streamer("aiostream", libraries.aiostream_as_completed, COSTLY, ordered=False, packages=("aiostream",)),
]
IN_ORDER = [one.peer() for one in (STREAMABLE, AIOSTREAM)]

LIST = Shape(
    "list",
    Peer("await paco.map(...)", peers.paco_list),
    [
        PLAIN,
        BARE,
        POOL,
        GATHER,
        Peer("TaskGroup + Semaphore", peers.task_group_semaphore, SOME),
        Peer("aioitertools", libraries.aioitertools, SOME, packages=("aioitertools",)),
        STREAMABLE.peer(),
        Peer("tqdm.asyncio + Semaphore", libraries.tqdm_gather, SOME, packages=("tqdm",)),
        Peer("aiotools + Semaphore", libraries.aiotools_gather, SOME, packages=("aiotools",)),
        Peer("aiometer", libraries.aiometer_run_all, COSTLY, packages=("aiometer",)),
        Peer("aiostream", libraries.aiostream_list, COSTLY, packages=("aiostream",)),
        Peer("anyio + CapacityLimiter", libraries.anyio_limiter, COSTLY, packages=("anyio",)),
    ],
)
AT_ONCE = Shape(LIST.name, LIST.ours, [peer for peer in LIST.peers if peer != PLAIN])
ORDERED = Shape("ordered stream", PACO_ORDERED.peer(), IN_ORDER)
AS_COMPLETED = Shape("as completed", PACO_AS_COMPLETED.peer(), [one.peer() for one in UNORDERED])
SLOW_HEAD = Shape("ordered stream", PACO_ORDERED.peer(), [IDEAL_HEAD, *IN_ORDER])
SLOW_HEAD_BUFFERED = Shape("ordered stream with a buffer", PACO_BUFFERED.peer(), [IDEAL_HEAD, *IN_ORDER])
SLOW_CONSUMER = Shape(
    "slow consumer",
    PACO_ORDERED.slowly(),
    [IDEAL_CONSUMER, *(one.slowly() for one in (STREAMABLE, AIOSTREAM, *UNORDERED[1:-1]))],
)
PIPELINE = Shape(
    "pipeline",
    Peer("await (items | paco.map(...) | paco.map(...) | paco.map(...))", peers.paco_pipeline),
    [
        Peer("queues and workers by hand", peers.queues),
        Peer("gather + Semaphore, thrice", peers.gather_thrice),
        Peer("streamable", libraries.streamable_pipeline, packages=("streamable",)),
        Peer("pyper", libraries.pyper_pipeline, COSTLY, ordered=False, packages=("python-pyper",)),
        Peer("aiostream", libraries.aiostream_pipeline, COSTLY, packages=("aiostream",)),
    ],
)
LISTENERS = Shape(
    "listeners",
    LIST.ours,
    [
        Peer("under paco.listening", peers.paco_listened),
        Peer("under paco.progress", peers.paco_shown),
        Peer("under paco.trace", peers.paco_traced),
    ],
)
SHAPES = (LIST, ORDERED, AS_COMPLETED, SLOW_HEAD, SLOW_HEAD_BUFFERED, SLOW_CONSUMER, PIPELINE, LISTENERS)
