"""`serai doctor`: what this machine lacks to run jobs, in words, before a user finds out."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import click
from click.core import ParameterSource
from rich.text import Text
from serai_backends.model import CheckReport, Severity

from serai_server.cli import output
from serai_server.cli.config import parse
from serai_server.cli.config_command import example_text
from serai_server.cli.exits import Exit
from serai_server.cli.options import config_option, json_option, settings_or_exit
from serai_server.cli.plan import check_backend

_COLOURS = {Severity.NOTE: "cyan", Severity.WARNING: "yellow", Severity.ERROR: "red"}


@click.command()
@json_option
@config_option
@click.pass_context
def command(context: click.Context, as_json: bool, config: Path) -> None:
    """Try what this machine needs to run jobs, and say what to do about what is missing.

    Without a settings file it tries what the local backend needs by default. Exit code 1 means that jobs cannot run here.

    \b
    serai doctor
    serai doctor --json | jq '.findings[] | select(.severity == "error")'
    """
    if context.get_parameter_source("config") is ParameterSource.DEFAULT and not config.exists():
        click.echo(f"there is no {config} here: this is about the default settings", err=True)
        report = _check_defaults()
    else:
        report = asyncio.run(check_backend(settings_or_exit(config)))
    if as_json:
        findings = [{"severity": f.severity.value, "subject": f.subject, "text": f.text} for f in report.findings]
        output.print_json({"usable": report.usable, "findings": findings})
    else:
        _print(report)
    if not report.usable:
        context.exit(Exit.ERROR)


def _check_defaults() -> CheckReport:
    with tempfile.TemporaryDirectory(prefix="serai-doctor-") as folder:
        return asyncio.run(check_backend(parse(example_text(), Path(folder, "serai.toml"))))


def lines(report: CheckReport, severity: Severity) -> list[str]:
    """The findings of one severity without colour, for other commands."""
    return [f"{f.severity.value.ljust(8)}{f.subject}: {f.text}" for f in report.findings if f.severity is severity]


def _print(report: CheckReport) -> None:
    console = output.console()
    for finding in report.findings:
        console.print(Text(finding.severity.value.ljust(8), style=_COLOURS[finding.severity]), end="")
        console.print(f"{finding.subject}: {finding.text}", soft_wrap=True)
    console.print("jobs can run here" if report.usable else Text("jobs cannot run here", style="red"))
