"""Shells, web pages and desktops of running jobs: how they are opened, and what comes of a shell."""

from __future__ import annotations

from serai_conformance.client import Answer
from serai_conformance.documents import items
from serai_conformance.judge import refused, responses, rule
from serai_conformance.model import Broken, NotObserved
from serai_conformance.rules.declared import open_session, serving, session_item
from serai_conformance.rules.replicas import COUNT, ONE
from serai_conformance.sockets import Refused, Wire, must_have
from serai_conformance.visit import Job, Visit
from serai_conformance.wire import Json, JsonObject, kind_of, text_at

_SEED = "seed Jobs, openInteractiveSession; 2021 §4.1"
_SHELL = "2021 §4.5; today §8"


def _of(answer: Answer, job: Job, kind: str) -> Json:
    (found,) = responses(answer, 1)
    if text_at(found, "type") != kind:
        raise Broken(f"responses[0].type is {text_at(found, 'type') or kind_of(found)}, where {kind} was expected")
    must_have(found, [("jobId", str), ("rank", int)], "responses[0]")
    if text_at(found, "jobId") != job.id:
        raise Broken(f"responses[0].jobId is {text_at(found, 'jobId')}, and the session was asked for job {job.id}")
    return found


@rule("sessions.shell", "A shell's answer has its job, rank and sessionIdentifier.", _SEED, needs=("terminal",))
async def shell(visit: Visit) -> None:
    job = await visit.talker()
    must_have(_of(await open_session(visit, job, "SHELL"), job, "shell"), [("sessionIdentifier", str)], "responses[0]")


@rule("sessions.web", "A web page's answer has its job, rank and redirectClientTo.", _SEED, needs=("web",))
async def web(visit: Visit) -> None:
    async with serving(visit, "WEB", "web") as job:
        found = _of(await open_session(visit, job, "WEB"), job, "web")
    must_have(found, [("redirectClientTo", str)], "responses[0]")
    address = text_at(found, "redirectClientTo")
    if not address.startswith(("http://", "https://", "/")):
        raise Broken(f"redirectClientTo is {address!r}: no address, and no path at the provider")


@rule("sessions.vnc", "A desktop's answer has its job, rank, url, and a password or null.", _SEED, needs=("vnc",))
async def vnc(visit: Visit) -> None:
    async with serving(visit, "VNC", "vnc") as job:
        found = _of(await open_session(visit, job, "VNC"), job, "vnc")
    must_have(found, [("url", str), ("password", (str, type(None)))], "responses[0]")


@rule(
    "sessions.secret",
    "Each session has a secret of its own, which nobody can guess.",
    "2021 §4.4; today §8: it is the only credential",
    needs=("terminal",),
)
async def secret(visit: Visit) -> None:
    job = await visit.talker()
    first, second = [text_at(_of(await open_session(visit, job, "SHELL"), job, "shell"), "sessionIdentifier") for _ in range(2)]
    if first == second:
        raise Broken("two sessions have the same sessionIdentifier")
    if min(len(first), len(second)) < 16:
        raise Broken(f"a sessionIdentifier has {min(len(first), len(second))} characters: it is the session's only credential")


@rule(
    "sessions.places",
    "A bulk of sessions is answered in the order of its items.",
    "2021 §1.2; today §5: exactly as many",
    needs=("terminal", "logs"),
)
async def places(visit: Visit) -> None:
    if visit.target.replicas < COUNT:
        raise NotObserved(ONE)
    async with visit.having(visit.program("exec sleep 3600", replicas=COUNT)) as job:
        await visit.until_running(job)
        asked = [session_item(visit, job, rank, "SHELL") for rank in (1, 0)]
        found = responses(await visit.client.post("/jobs/interactiveSession", items(*asked), username="kit"), 2)
    ranks = [one.get("rank") if isinstance(one, dict) else None for one in found]
    if ranks != [1, 0]:
        raise Broken(f"shells of ranks 1 and 0 were asked for, in this order, and the answer has ranks {ranks}")


@rule("sessions.rank", "A session of a rank that the job does not have is refused.", _SEED, needs=("terminal",))
async def rank(visit: Visit) -> None:
    job = await visit.talker()
    for wrong in (7, -1):
        refused(await visit.client.post("/jobs/interactiveSession", items(session_item(visit, job, wrong, "SHELL")), username="kit"))


@rule("sessions.kind", "A kind of session that does not exist is 400.", "2021 §4.1: WEB, VNC or SHELL")
async def kind(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    refused(await visit.client.post("/jobs/interactiveSession", items(session_item(visit, job, 0, "KIT")), username="kit"), 400)


@rule("sessions.unknown-job", "A session of a job that is not known is refused.", _SEED)
async def unknown_job(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    refused(await visit.client.post("/jobs/interactiveSession", items(session_item(visit, job, 0, "SHELL")), username="kit"))


def _frame(visit: Visit, stream_id: str, payload: JsonObject) -> JsonObject:
    return {"call": f"jobs.compute.{visit.target.name}.shell.open", "streamId": stream_id, "payload": payload}


async def _initialize(visit: Visit, socket: Wire, session: str) -> str:
    stream_id = visit.new_stream()
    await socket.send(_frame(visit, stream_id, {"type": "initialize", "sessionIdentifier": session, "cols": 80, "rows": 24}))
    return stream_id


def _typed(socket: Wire, kind: str) -> list[Json]:
    return [frame["payload"] for frame in socket.frames if isinstance(frame, dict) and text_at(frame, "payload", "type") == kind]


@rule("shell.typing", "What is typed into a shell comes to a program in the job, and its output comes back.", _SHELL, needs=("terminal",))
async def typing(visit: Visit) -> None:
    job = await visit.talker()
    session = text_at((await open_session(visit, job, "SHELL")).body, "responses", 0, "sessionIdentifier")
    if not session:
        raise NotObserved("no shell could be opened")
    try:
        async with visit.shell_socket(session) as socket:
            stream_id = await _initialize(visit, socket, session)
            if not await socket.until(lambda: bool(_typed(socket, "initialize")) or socket.closed, visit.target.patience_s):
                raise Broken("a shell was not begun: no message with type initialize came")
            typed = visit.new_stream()
            await socket.send(_frame(visit, typed, {"type": "input", "data": "echo kit-$((6*7))\r"}))
            wanted = lambda: "kit-42" in "".join(text_at(one, "data") for one in _typed(socket, "data"))  # noqa: E731
            if not await socket.until(lambda: wanted() or socket.closed, visit.target.patience_s) or not wanted():
                came = "".join(text_at(one, "data") for one in _typed(socket, "data"))
                raise Broken(f"`echo kit-$((6*7))` was typed, and what came was {came[-200:]!r}")
            ids = {
                str(frame.get("streamId"))
                for frame in socket.frames
                if isinstance(frame, dict) and text_at(frame, "payload", "type") == "data"
            }
            if ids != {stream_id}:
                raise Broken(f"output of a shell came in stream {', '.join(sorted(ids))}, and it was begun in {stream_id}")
    except Refused as error:
        raise Broken(str(error)) from error


@rule("shell.secret", "No shell opens without a session's secret.", _SHELL, needs=("terminal",))
async def shell_secret(visit: Visit) -> None:
    wrong = "0a1b2c3d-0000-4000-8000-000000000000"
    try:
        async with visit.shell_socket(wrong) as socket:
            stream_id = await _initialize(visit, socket, wrong)
            await socket.answered(stream_id, visit.target.answer_within_s)
            await socket.send(_frame(visit, visit.new_stream(), {"type": "input", "data": "echo kit-$((6*7))\r"}))
            if await socket.until(lambda: bool(_typed(socket, "initialize")), 0.5) or "kit-42" in str(socket.frames):
                raise Broken("a shell was begun with a session that does not exist")
            word = socket.last_word(stream_id)
            if not socket.closed and (word is None or word.get("status") in (200, None)):
                raise Broken("a session that does not exist was neither refused nor was the WebSocket closed")
    except Refused:
        pass


RULES = (shell, web, vnc, secret, places, rank, kind, unknown_job, typing, shell_secret)
