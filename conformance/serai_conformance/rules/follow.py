"""Following a job's output, in what both generations have in common: text from the first byte, by rank and stream, to the end."""

from __future__ import annotations

from serai_conformance.judge import rule
from serai_conformance.model import Broken
from serai_conformance.sockets import Refused, Wire, must_have
from serai_conformance.visit import READY, Visit
from serai_conformance.wire import JsonObject, kind_of, text_at

_SOURCE = "2021 §3.3, §3.4; today §8"
_LOGS = ("logs",)


@rule("follow.output", "What a program writes to its output is shown.", _SOURCE, needs=_LOGS)
async def output(visit: Visit) -> None:
    async with visit.follow(await visit.talker()) as stream:
        await stream.until_text(0, "kit-out", visit.target.patience_s)


@rule("follow.errors", "What a program writes to its error output is shown.", _SOURCE, needs=_LOGS)
async def errors(visit: Visit) -> None:
    async with visit.follow(await visit.talker()) as stream:
        await stream.until_text(0, "kit-err", visit.target.patience_s)


@rule("follow.messages", "Each message has a rank of the job, and its text as `stdout` or `stderr`.", _SOURCE, needs=_LOGS)
async def messages(visit: Visit) -> None:
    async with visit.follow(await visit.talker()) as stream:
        await stream.wire.until(lambda: READY in stream.text(0) or stream.ended, visit.target.patience_s)
        for payload in stream.payloads():
            must_have(payload, [("rank", int)], "a message of a follow")
            rank = payload["rank"]
            if rank not in ((0,) if visit.todays else (-1, 0)):
                raise Broken(f"a message is of rank {rank}, and the job has rank 0 only")
            for name in ("stdout", "stderr"):
                if not isinstance(payload.get(name), str | None):
                    raise Broken(f"{name} of a message is {kind_of(payload.get(name))}, where a text or null was expected")


@rule("follow.again", "Whoever follows later sees everything from the first byte.", _SOURCE, needs=_LOGS)
async def again(visit: Visit) -> None:
    job = await visit.talker()
    for _ in range(2):
        async with visit.follow(job) as stream:
            await stream.until_text(0, READY, visit.target.patience_s)
            if "kit-out\n" not in stream.text(0, "stdout"):
                raise Broken(f"a follow that began later shows {stream.text(0, 'stdout')!r}: the beginning is missing")


@rule("follow.live", "What is written while somebody follows is shown, once.", _SOURCE, needs=_LOGS)
async def live(visit: Visit) -> None:
    script = "i=0; while [ $i -lt 20 ]; do i=$((i+1)); echo kit-line-$i; sleep 0.05; done; exec sleep 3600"
    async with visit.having(visit.program(script)) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            await stream.until_text(0, "kit-line-20\n", visit.target.patience_s)
            got = stream.text(0, "stdout").splitlines()
    wanted = [f"kit-line-{at}" for at in range(1, 21)]
    if got != wanted:
        raise Broken(f"20 lines were written one by one, and the follow showed: {' '.join(got)}")


@rule("follow.characters", "Characters of several bytes come whole.", "2021 §3.3: text is UTF-8", needs=_LOGS)
async def characters(visit: Visit) -> None:
    script = f"printf '\\303'; sleep 0.5; printf '\\246\\303\\270\\342\\202\\254\\n'; echo {READY}; exec sleep 3600"
    async with visit.having(visit.program(script)) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            await stream.until_text(0, READY, visit.target.patience_s)
            got = stream.text(0, "stdout")
    if not got.startswith("\u00e6\u00f8\u20ac\n"):
        raise Broken(f"a program wrote \u00e6\u00f8\u20ac, the first letter in two pieces, and the follow showed {got.splitlines()[:1]}")


@rule("follow.end", "The follow ends when the job has ended, and not before.", _SOURCE, needs=_LOGS)
async def end(visit: Visit) -> None:
    job = await visit.running(visit.program("echo kit-out; exec sleep 3600"))
    async with visit.follow(job) as stream:
        await stream.until_text(0, "kit-out", visit.target.patience_s)
        if await stream.until_ended(1.0):
            raise Broken("a follow ended while its job was still running")
        await visit.end(job)
        if not await stream.until_ended(visit.target.patience_s):
            raise Broken(f"the job was terminated, and its follow did not end within {visit.target.patience_s:g} s")


@rule("follow.tail", "What a program writes at its very end is shown before the follow ends.", _SOURCE, needs=_LOGS)
async def tail(visit: Visit) -> None:
    async with visit.having(visit.program("echo kit-out; sleep 2; echo kit-last")) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            await stream.until_text(0, "kit-last", visit.target.patience_s)


@rule("follow.strangers", "Nobody follows without Core's token.", "2021 §3.2; today §8", needs=_LOGS)
async def strangers(visit: Visit) -> None:
    job = await visit.talker()
    expired = visit.signer.core(iat=1_600_000_000, exp=1_600_000_600)
    for words, token in (("no token", None), ("a token that is none", "hello"), ("an expired token", expired)):
        try:
            async with visit.follow_socket(token=token) as socket:
                await _nothing_shown(visit, socket, visit.init_frame(job, visit.new_stream(), bearer=token), words)
        except Refused as error:
            if error.status != 401:
                raise Broken(f"with {words} {error}, where 401 was expected") from error


async def _nothing_shown(visit: Visit, socket: Wire, frame: JsonObject, words: str) -> None:
    """2021: a response of 401. Today the WebSocket may be opened without a token, but nothing comes of it."""
    stream_id = text_at(frame, "streamId")
    await socket.send(frame)

    def shown() -> bool:
        return any("kit-out" in str(one) for one in socket.frames)

    await socket.until(lambda: shown() or socket.closed or socket.last_word(stream_id) is not None, 2.0)
    if shown():
        raise Broken(f"with {words} the output of a job was shown")
    status = (socket.last_word(stream_id) or {}).get("status")
    if not visit.todays and not socket.closed and status != 401:
        raise Broken(f"a follow with {words} was answered {status or 'with nothing'}, where 401 was expected")


RULES = (output, errors, messages, again, live, characters, end, tail, strangers)
