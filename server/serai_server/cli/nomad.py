"""`serai nomad`: what Serai gives to Nomad, for the people who run the cluster."""

from __future__ import annotations

from pathlib import Path

import click
from serai_backends.errors import SubmissionRefused
from serai_backends.model import ReplicaSpec
from serai_backends.nomad import jobfile
from serai_backends.nomad.records import Record, Stage, read_record
from serai_backends.nomad.settings import NomadSettings

from serai_server.cli import output
from serai_server.cli.config import Settings
from serai_server.cli.exits import CliError, Exit
from serai_server.cli.options import config_option, settings_or_exit
from serai_server.cli.plan import nomad_settings
from serai_server.jobs.products import Product

_EXAMPLE_ID = "example"


@click.group()
def command() -> None:
    """What Serai gives to Nomad."""


@command.command()
@click.argument("job_id", required=False, metavar="[JOB]")
@click.option("--product", metavar="CATEGORY/ID", help="Without JOB: the machine type of the example; else the first one of the settings.")
@click.option("--replicas", type=click.IntRange(1, 10_000), default=1, show_default=True, help="Without JOB: how many replicas it has.")
@click.option("--image", default="acme/batch:1.0.0", show_default=True, help="Without JOB: its container image.")
@click.option("--json", "as_json", is_flag=True, help="As Nomad's API takes it: `nomad job run -json` reads it.")
@config_option
def render(job_id: str | None, *, product: str | None, replicas: int, image: str, as_json: bool, config: Path) -> None:
    """Print the job file of a job as it is given to Nomad, or of an example when no JOB is named.

    JOB is UCloud's id of a job that the server has taken on and not forgotten. Nothing is sent anywhere.

    \b
    serai nomad render 4711
    serai nomad render --product hpc/c8 --replicas 4 | less
    """
    settings = settings_or_exit(config)
    nomad = nomad_settings(settings)
    record = _record(nomad, job_id) if job_id is not None else _example(settings, product, replicas, image)
    try:
        prepared = jobfile.Prepared(uid=record.uid, gid=record.gid)
        job = jobfile.build(record.spec, record.attempt, prepared, nomad)
    except SubmissionRefused as error:
        raise CliError(f"this job cannot be given to Nomad: {error}") from error
    if as_json:
        output.print_json({"Job": job})
    else:
        click.echo(jobfile.hcl(job), nl=False)


def _record(nomad: NomadSettings, job_id: str) -> Record:
    record = read_record(Path(nomad.state_dir), job_id)
    if record is None or record.stage is Stage.CANCELED_BEFORE:
        raise CliError(f"job {job_id} has no job file here: it was never taken on, or it is over and forgotten", Exit.NOT_FOUND)
    if record.adopted:
        raise CliError(f"job {job_id} was taken over from Nomad; `nomad job inspect` shows what runs")
    return record


def _example(settings: Settings, wanted: str | None, replicas: int, image: str) -> Record:
    products = {f"{product.category}/{product.id}": product for product in settings.sold()}
    name = wanted or next(iter(products))
    if name not in products:
        raise CliError(f"the settings sell no machine type {name}; they have {', '.join(products)}", Exit.USAGE)
    user = settings.backend.nomad.uid_first
    spec = _example_spec(products[name], name, replicas, image)
    return Record(job_id=_EXAMPLE_ID, sequence=1, stage=Stage.QUEUED, spec=spec, uid=user, gid=user)


def _example_spec(product: Product, name: str, replicas: int, image: str) -> ReplicaSpec:
    return ReplicaSpec(
        job_id=_EXAMPLE_ID,
        replicas=replicas,
        argv=("acme-batch", "--debug", "true", "value"),
        environment=(("GREETING", "hello"),),
        resources=product.resources,
        output_folder=f"user/Jobs/example/{_EXAMPLE_ID}",
        image=image,
        product=name,
        time_limit_ms=3_600_000,
    )
