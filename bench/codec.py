"""The codec against the parsers that others would use, on the seed's job.

UCloud's JSON to a message's wire over `orjson.loads` of the same bytes; a message to UCloud's JSON over `MessageToDict` and
`orjson.dumps`.
"""

from __future__ import annotations

import json
from itertools import cycle
from pathlib import Path
from statistics import median

import orjson
from google.protobuf.json_format import MessageToDict
from serai.jobs.v1 import jobs_service_pb2
from serai_gateway.codec import Codec

from bench.ratio import Ratio, cpu_rounds, over

SEED = Path(__file__).parent.parent / "tests" / "golden" / "ucloud-2021" / "jobs-provider-03-jobs.request.json"
CREATE = jobs_service_pb2.CreateRequest.DESCRIPTOR
ROUNDS = 15
BULK = 100
# More than the cache holds, so that every one of them is new each time it comes round.
STRANGERS = 1000


def _request(*items: object) -> bytes:
    return json.dumps({"items": items}, separators=(",", ":")).encode()


def run() -> list[Ratio]:
    """Five ratios of CPU time with limits, and one that is printed for comparison."""
    item = json.loads(SEED.read_text())["items"][0]
    seed = _request(item)
    bulk = _request(*[item] * BULK)
    strangers = [
        seed.replace(b"An example application", b"An example app %07d" % number)
        .replace(b'"description":"An example machine"', b'"description":"An example %07d"' % number)
        .replace(b'"support":{', b'"support":{"n":%d,' % number)
        for number in range(STRANGERS)
    ]
    warm, cold, uncached = Codec(), Codec(), Codec(cache_entries=0)
    unknown = cycle(strangers)
    floor = cycle(strangers)
    message = jobs_service_pb2.CreateRequest.FromString(warm.read(CREATE, seed))
    found = cpu_rounds(
        {
            "floor cold": (lambda: orjson.loads(next(floor)), 400),
            "cold": (lambda: cold.read(CREATE, next(unknown)), 400),
            "floor": (lambda: orjson.loads(seed), 400),
            "uncached": (lambda: uncached.read(CREATE, seed), 400),
            "warm": (lambda: warm.read(CREATE, seed), 400),
            "floor bulk": (lambda: orjson.loads(bulk), 8),
            "bulk": (lambda: warm.read(CREATE, bulk), 8),
            "dict": (lambda: orjson.dumps(MessageToDict(message)), 60),
            "dict all": (lambda: orjson.dumps(MessageToDict(message, always_print_fields_with_no_presence=True)), 60),
            "write": (lambda: warm.write(message), 200),
        },
        ROUNDS,
    )

    def detail(name: str, floor: str) -> str:
        return f"{median(found[name]):.1f} us over {median(found[floor]):.1f} us of CPU"

    def at_most(name: str, one: str, other: str, limit: float) -> Ratio:
        return Ratio(f"codec: {name}", over(found, one, other), limit, "at most", "x", detail(one, other))

    return [
        at_most("JSON to wire, no subtree seen before", "cold", "floor cold", 3.5),
        at_most("JSON to wire, cache off", "uncached", "floor", 3.5),
        at_most("JSON to wire, repeated subtrees", "warm", "floor", 1.5),
        at_most(f"JSON to wire, bulk of {BULK} repeated", "bulk", "floor bulk", 1.0),
        # MessageToDict has to be told to print fields that are not set, as UCloud's JSON does; without that it does less than is asked.
        at_most("message to JSON", "write", "dict all", 0.25),
        Ratio("codec: message to JSON, over less", over(found, "write", "dict"), 0.25, "printed", "x", detail("write", "dict")),
    ]
