"""`serai demo`: the whole way of a job, embedded: a stand-in for Core, server and gateway, real replicas; then it ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
import grpc
import grpc.aio
import structlog
import uvloop
from serai.jobs.v1 import jobs_service_pb2 as pb
from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceStub
from serai_backends.errors import BackendError
from serai_backends.model import Severity
from serai_devcore import EXAMPLE_PRODUCT, UCLOUD_ETC, DevCore, Direction, Job, JobRequest, Submission
from serai_devcore import Settings as CoreSettings

from serai_server.cli import kit
from serai_server.cli.config import ConfigError, Settings, parse
from serai_server.cli.demo_story import LineCutter, OutputLine, Story, files_below, judge_batch, judge_replicas
from serai_server.cli.demo_view import RichView, SilentView, View
from serai_server.cli.doctor import lines
from serai_server.cli.exits import CliError, Exit, leaves
from serai_server.cli.log_setup import set_up_logging
from serai_server.cli.output import print_json
from serai_server.cli.plan import check_backend
from serai_server.cli.serve import Serai, running
from serai_server.store.api import StoreError

if TYPE_CHECKING:
    from serai.jobs.v1.jobs_service_pb2_grpc import JobsServiceAsyncStub

REPLICAS = 3
PROVIDER = EXAMPLE_PRODUCT.provider
ODD_CONTENT_TYPE = "content-type: application/json; charset=utf-8"
"""As in the seed's curl, where the header's value repeats its name."""
JOB_S = 40.0
"""Longest time for one job; it takes two seconds."""
BILL_S = 10.0
_EXPECTED = (OSError, TimeoutError, StoreError, BackendError, ConfigError)
"""What a machine may do to us; anything else is a mistake of ours and shows its traceback."""
_STREAMS = {pb.OUTPUT_STREAM_STDOUT: "stdout", pb.OUTPUT_STREAM_STDERR: "stderr"}


@click.command()
@click.option("--keep", is_flag=True, help="Keep the folder with database, logs and output.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON document on stdout.")
@click.option("--examples", type=click.Path(exists=True, file_okay=False, path_type=Path), help="The folder of the example programs.")
def command(keep: bool, as_json: bool, examples: Path | None) -> int:
    """Watch jobs from Core's request to their bill, with everything embedded and nothing left behind.

    Starts a stand-in for UCloud/Core, the server and the gateway in this process and a temporary folder. Sends the create request of
    UCloud's documentation over HTTP as Core does, then a job of three replicas, and shows what Core is told, what the replicas write, the
    files they leave, and the bill. Ends by itself: 0 = all was as expected, 1 = something was not, in words.
    """
    found = examples or kit.example_folder()
    if found is None:
        raise CliError("the example programs are not here; run in a checkout of Serai, or name their folder with --examples", Exit.USAGE)
    view = SilentView() if as_json else RichView()
    began = time.monotonic()
    with _folder(keep) as folder, _logs_to(folder / "serai.log"):
        try:
            stories = uvloop.run(_play(folder, found, view))
        except Exception as error:
            causes = leaves(error)
            if not all(isinstance(cause, _EXPECTED) for cause in causes):
                raise
            words = "; ".join(str(cause) for cause in causes)
            raise CliError(f"the demo could not go on: {words}\n{_tail(folder / 'serai.log')}") from error
        seconds = time.monotonic() - began
        bad = any(story.problems for story in stories)
        view.finished(stories, seconds, str(folder) if keep else "")
        if as_json:
            print_json(
                {
                    "ok": not bad,
                    "seconds": round(seconds, 2),
                    "folder": str(folder) if keep else None,
                    "stories": [story.to_json() for story in stories],
                }
            )
        elif bad:
            click.echo(_tail(folder / "serai.log"), err=True)
    return Exit.ERROR if bad else Exit.OK


async def _play(folder: Path, examples: Path, view: View) -> list[Story]:
    async with DevCore(CoreSettings()) as core:
        provider = core.add_provider(PROVIDER)
        settings = _settings(folder, examples, core)
        report = await check_backend(settings)
        if not report.usable:
            # Errors only: a warning would be about the demo's own folder.
            raise CliError("\n".join(["jobs cannot run here, says `serai doctor`:", *lines(report, Severity.ERROR)]))
        async with running(settings) as serai, _jobs_service(serai) as service:
            provider.url = serai.gateway_url
            view.started(
                {
                    "Core (stand-in)": core.url,
                    "Serai for Core": serai.gateway_url,
                    "Serai for tools": str(serai.socket),
                    "machine type": f"{EXAMPLE_PRODUCT.id}: {EXAMPLE_PRODUCT.cpu} core, {EXAMPLE_PRODUCT.memory_gib} GiB",
                }
            )
            stage = _Stage(core, service, view, Path(settings.backend.local.drives_dir))
            try:
                batch = await stage.batch((examples / "requests" / "batch.json").read_bytes())
                replicas = await stage.replicas()
            finally:
                await stage.end_all()
            return [batch, replicas]


def _settings(folder: Path, examples: Path, core: DevCore) -> Settings:
    """The settings that a person would write, read as from a file."""
    made = kit.Kit(
        core_url=core.url,
        generation=core.generation,
        gateway_port=0,
        access_log=False,
        program_dirs=tuple(path.resolve() for path in kit.program_dirs(examples)),
    )
    file = folder / kit.SETTINGS
    file.write_text(kit.settings_text(made), encoding="utf-8")
    kit.write_keys(folder, core, core.providers[PROVIDER])
    return parse(file.read_text(encoding="utf-8"), file)


@contextlib.asynccontextmanager
async def _jobs_service(serai: Serai) -> AsyncGenerator[JobsServiceAsyncStub]:
    """The tools' way in, which gives the output of replicas."""
    async with grpc.aio.insecure_channel(f"unix:{serai.socket}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield JobsServiceStub(channel)


@dataclass(frozen=True, slots=True)
class _Stage:
    """Plays one job after the other."""

    core: DevCore
    service: JobsServiceAsyncStub
    view: View
    drives: Path

    async def batch(self, body: bytes) -> Story:
        """The request of UCloud's documentation, byte for byte; its path names the provider by another name than its product does."""
        story = self._begin("The batch job of UCloud's documentation, as its curl sends it")
        self.core.providers[PROVIDER].path_name = "ucloud"
        submissions = await self.core.submit_raw(body, {"Content-Type": ODD_CONTENT_TYPE})
        await self._follow_through(story, submissions[0], 1)
        judge_batch(story)
        self.view.ended(story)
        return story

    async def replicas(self) -> Story:
        """The same program on several replicas, each of which prints what it is told about itself."""
        story = self._begin(f"One job on {REPLICAS} replicas, each printing its /etc/ucloud")
        self.core.providers[PROVIDER].path_name = ""
        submission = await self.core.submit(JobRequest(UCLOUD_ETC, EXAMPLE_PRODUCT, replicas=REPLICAS))
        await self._follow_through(story, submission, REPLICAS)
        judge_replicas(story, REPLICAS)
        self.view.ended(story)
        return story

    async def end_all(self) -> None:
        """Nothing of the demo goes on after it, also when it was interrupted: running jobs would outlive the server, by design."""
        running_jobs = [job for job in self.core.jobs if not job.final]
        for job in running_jobs:
            await self.core.terminate(job.id)
        with contextlib.suppress(TimeoutError):
            await self.core.until(lambda: all(job.final for job in running_jobs), BILL_S)

    def _begin(self, title: str) -> Story:
        story = Story(title, self.core.clock.now_ms())
        self.view.story(story)
        return story

    async def _follow_through(self, story: Story, submission: Submission, replicas: int) -> None:
        """From the answer to the bill; what does not come in time is left for the judge to miss."""
        story.exchange = self.core.requests.find(direction=Direction.TO_PROVIDER)[-1]
        self.view.request(story, story.exchange)
        story.job = job = self.core.jobs.get(submission.job_id)
        if job is None:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOB_S), asyncio.TaskGroup() as group:
                group.create_task(self._output(story, job.id))
                await self._updates(story, job)
        with contextlib.suppress(TimeoutError):
            await self.core.until(lambda: self._billed(job) >= replicas, BILL_S)
        story.charges = [charge for charge in self.core.accounts.charges if charge.job_id == job.id]
        wallet = self.core.accounts.wallet(self.core.wallet_of(job.id))
        story.credits_left = wallet.left if wallet else 0
        if job.output_folder is not None:
            story.files = await asyncio.to_thread(files_below, self.drives / job.output_folder.lstrip("/"))

    async def _updates(self, story: Story, job: Job) -> None:
        """Each update as Core receives it, until one is final."""
        while True:
            await self.core.until(lambda: len(job.arrivals) > len(story.updates), JOB_S)
            for arrival in job.arrivals[len(story.updates) :]:
                story.updates.append(arrival)
                self.view.update(story, arrival)
            if job.final:
                return

    async def _output(self, story: Story, job_id: str) -> None:
        """Each line as a replica writes it, until all output has ended."""

        def tell(rank: int, stream: str, text: str) -> None:
            line = OutputLine(self.core.clock.now_ms(), rank, stream, text)
            story.lines.append(line)
            self.view.line(story, line)

        cutter = LineCutter(tell)
        try:
            async for chunk in self.service.Follow(pb.FollowRequest(job_id=job_id, follow=True)):
                cutter.feed(chunk.rank, _STREAMS[chunk.stream], chunk.data)
        except grpc.aio.AioRpcError as error:
            story.problems.append(f"the output can be followed: {error.details()}")
        cutter.end()

    def _billed(self, job: Job) -> int:
        """Periods of all replicas that were charged for."""
        return sum(c.periods * c.number_of_products for c in self.core.accounts.charges if c.job_id == job.id)


@contextlib.contextmanager
def _folder(keep: bool) -> Generator[Path]:
    """A folder for everything; other users may pass through it but not look, for each job runs as a user of its own."""
    folder = Path(tempfile.mkdtemp(prefix="serai-demo-"))
    folder.chmod(0o711)
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _logs_to(file: Path) -> Generator[None]:
    """What server and gateway log goes to a file, not between the lines of the story."""
    before = structlog.get_config()
    set_up_logging("info")
    try:
        with file.open("w", encoding="utf-8") as out:
            structlog.configure(logger_factory=structlog.WriteLoggerFactory(out), cache_logger_on_first_use=False)
            yield
    finally:
        structlog.configure(**before)


def _tail(file: Path, lines: int = 20) -> str:
    with contextlib.suppress(OSError):
        last = file.read_text(encoding="utf-8").splitlines()[-lines:]
        return "\n".join(["the last of its log:", *last]) if last else ""
    return ""
