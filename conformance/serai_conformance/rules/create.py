"""`create`: jobs are taken whole, in order, once."""

from __future__ import annotations

from serai_conformance.documents import Parameter, Product, items
from serai_conformance.judge import accepted, own_id, refused, responses, rule
from serai_conformance.model import G2021, Broken, only
from serai_conformance.visit import READY, Job, Visit
from serai_conformance.wire import with_item

_SEED = "seed Jobs, create"


@rule("create.answer", "A create is answered with null or {id} for each item.", f"{_SEED}; 2021 §1.1", generations=only(G2021))
async def answer(visit: Visit) -> None:
    jobs = [visit.job(visit.program("exit 0")) for _ in range(3)]
    for at, element in enumerate(responses(await visit.create(*jobs), len(jobs))):
        own_id(element, f"responses[{at}]")


@rule("create.answer-object", "A create is answered with an object in JSON; an id in it is a text.", f"{_SEED}; today §6.1")
async def answer_object(visit: Visit) -> None:
    job = visit.job(visit.program("exit 0"))
    found = accepted(await visit.create(job)).get("responses")
    if isinstance(found, list) and found:
        own_id(found[0], "responses[0]")


@rule("create.again", "The same create again gives the same answer.", "2021 §1.3: Core repeats a call after 449 and 503")
async def again(visit: Visit) -> None:
    async with visit.having(visit.program("exec sleep 3600")) as job:
        first = await visit.client.post("/jobs", items(job.document), username="kit")
        second = await visit.client.post("/jobs", items(job.document), username="kit")
        for repeated in (first, second):
            if not repeated.ok:
                raise Broken(f"the same create again: {repeated.words}, where the answer of the first one was expected")
        if first.body != second.body:
            raise Broken("the same create was answered differently when it came again")


@rule("create.conflict", "An id that the provider has with another content is refused.", f"{_SEED}: the id of a job is unique, globally")
async def conflict(visit: Visit) -> None:
    async with visit.having(visit.program("exec sleep 3600")) as job:
        other = visit.job(visit.program("echo another; exec sleep 3600"), job.id)
        refused(await visit.client.post("/jobs", items(other.document), username="kit"))


@rule("create.product", "A product that the provider does not declare is refused.", "2021 §1.4; seed Jobs, Declaring support")
async def product(visit: Visit) -> None:
    found = visit.product
    for wrong in (Product("conformance-kit", found.category, found.provider), Product(found.id, "conformance-kit", found.provider)):
        await _no(visit, visit.job(visit.program("exit 0"), product=wrong), f"product {wrong.key}")


@rule("create.foreign-product", "Another provider's product is refused.", "2021 §8.4: a product names its provider")
async def foreign_product(visit: Visit) -> None:
    found = visit.product
    await _no(
        visit, visit.job(visit.program("exit 0"), product=Product(found.id, found.category, f"{found.provider}-other")), "its product"
    )


async def _no(visit: Visit, job: Job, what: str) -> None:
    answer = await visit.create(job)
    if answer.ok:
        await visit.end(job)
        raise Broken(f"a job on {what} was taken, and is not declared")
    refused(answer)


@rule("create.poison", "A bulk with one bad item is refused whole: nothing of it runs.", "2021 §1.1: a bulk succeeds or fails as a whole")
async def poison(visit: Visit) -> None:
    good, bad = (visit.job(visit.program("exit 0")) for _ in range(2))
    document = with_item(bad.document, "specification.replicas", -1)
    answer = await visit.create(good, bad, body=items(good.document, document))
    if answer.ok:
        await visit.end(good)
    refused(answer)
    # What was kept of it in spite of the refusal shows when another job comes with its id.
    other = visit.job(visit.program("exit 1"), good.id)
    second = await visit.create(other)
    if not second.ok:
        raise Broken(f"a bulk was refused for its last item, and its first item is there all the same: {second.words}")
    visit.refused_ids.discard(other.id)
    await visit.end(other)


@rule(
    "create.arguments",
    "The program gets the arguments that the invocation makes of the values.",
    "2021 §8.6, §9.1; today §7",
    needs=("logs",),
)
async def arguments(visit: Visit) -> None:
    given = (
        Parameter("words", "text", {"type": "text", "value": "two  words, \"quotes\" 'and' $HOME `x` \u00e6\u00f8 *"}),
        Parameter("empty", "text", {"type": "text", "value": ""}),
        Parameter("large", "integer", {"type": "integer", "value": 9_007_199_254_740_993}),
        Parameter("real", "floating_point", {"type": "floating_point", "value": 2.5}),
        Parameter("yes", "boolean", {"type": "boolean", "value": True}, {"trueValue": "true", "falseValue": "false"}),
        Parameter("choice", "enumeration", {"type": "text", "value": "Fast"}, {"options": [{"name": "Fast", "value": "--speed=9"}]}),
    )
    script = f'for a in "$@"; do echo "<$a>"; done; echo {READY}; exec sleep 3600'
    async with visit.having(visit.program(script, parameters=given)) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            await stream.until_text(0, READY, visit.target.patience_s)
            got = stream.text(0).split(READY)[0].split("\n")[:-1]
    values = [str(one.value["value"]) for one in given]
    wanted = [f"<{text}>" for text in (*values[:4], "true", "--speed=9")]
    for name, want, have in zip([one.name for one in given], wanted, got, strict=False):
        if want != have:
            raise Broken(f"parameter {name}: the program got {have}, where {want} was expected")
    if len(got) != len(wanted):
        raise Broken(f"the program got {len(got)} arguments, where {len(wanted)} were expected: {' '.join(got)}")


@rule("create.parameter", "A value of another type than its parameter has is refused.", "2021 §8.6", generations=only(G2021))
async def parameter(visit: Visit) -> None:
    wrong = Parameter("count", "integer", {"type": "text", "value": "many"})
    job = visit.job(visit.program("exit 0", parameters=(wrong,)))
    answer = await visit.create(job)
    if answer.ok:
        await visit.end(job)
    refused(answer)


@rule("create.many", "A bulk of many jobs is taken at once.", "2021 §7: a bulk has 1 to 1,000 items", generations=only(G2021))
async def many(visit: Visit) -> None:
    """Ten: they really run."""
    jobs = [visit.job(visit.program("exit 0")) for _ in range(10)]
    responses(await visit.create(*jobs), len(jobs))


@rule("create.work", "The program runs in a folder that it can write to.", "seed Jobs, the /work directory", needs=("logs",))
async def work(visit: Visit) -> None:
    script = f"echo here > kit.txt && cat kit.txt && pwd; echo {READY}; exec sleep 3600"
    async with visit.having(visit.program(script)) as job:
        await visit.until_running(job)
        async with visit.follow(job) as stream:
            await stream.until_text(0, READY, visit.target.patience_s)
            found = stream.text(0, "stdout")
    if not found.startswith("here\n"):
        raise Broken(f"a program could not write a file where it runs: {stream.text(0)!r}")


RULES = (answer, answer_object, again, conflict, product, foreign_product, poison, arguments, parameter, many, work)
