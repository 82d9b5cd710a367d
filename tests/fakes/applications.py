"""Applications and jobs for tests, written as protobuf text."""

from __future__ import annotations

from google.protobuf import text_format
from serai.jobs.v1.application_pb2 import Application
from serai.jobs.v1.job_pb2 import JobSpecification
from serai_backends.model import Features
from serai_server.jobs.applications import App, app_of
from serai_server.jobs.parameters import Values, values_of

EVERYTHING = Features(inputs=True, peers=True, web=True, vnc=True)
PATH = "items[0].specification"
KINDS = {"file": "input_file", "network": "network_ip"}
"""Kinds of parameter whose value has another name."""


def app(invocation: str) -> App:
    """The application of this invocation."""
    message = text_format.Parse(f"invocation {{ {invocation} }}", Application())
    return app_of(message.SerializeToString(deterministic=True))


def spec(resources: str = "", **values: str) -> JobSpecification:
    """A job's values: `spec(n="integer { value: 1 }")`."""
    entries = "".join(f'parameters {{ key: "{name}" value {{ {value} }} }}' for name, value in values.items())
    return text_format.Parse(entries + resources, JobSpecification())


def declared(invocation: str, **values: str) -> str:
    """The invocation with a declaration for each value that it does not declare itself, of the value's own kind."""
    kinds = {name: value.split("{", 1)[0].strip() for name, value in values.items() if f'{{ name: "{name}"' not in invocation}
    return invocation + "".join(f' parameters {{ {KINDS.get(kind, kind)} {{ name: "{name}" }} }}' for name, kind in kinds.items())


def given(application: App, job: JobSpecification, features: Features = EVERYTHING, *, undeclared: bool = False) -> Values:
    return values_of(application, job, features, PATH, undeclared=undeclared)
