"""Every call to Nomad.

environment  where Nomad is and how one gets in
requester    plain calls, by python-nomad on threads
streams      connections that stay open, by aiohttp
events       the event stream
logs         what Nomad has of a task's output
shells       programs beside a task's own
errors       what Nomad's answers mean
api          all of it as one client
"""

from serai_backends.nomad.client.api import HostVolume, NomadClient, Registered, open_client
from serai_backends.nomad.client.errors import AlreadyRegistered, NoHostVolumes, NotAllowed, RegistrationRefused, VariableConflict
from serai_backends.nomad.client.events import Event, EventBatch
from serai_backends.nomad.client.shells import NomadShell

__all__ = [
    "AlreadyRegistered",
    "Event",
    "EventBatch",
    "HostVolume",
    "NoHostVolumes",
    "NomadClient",
    "NomadShell",
    "NotAllowed",
    "Registered",
    "RegistrationRefused",
    "VariableConflict",
    "open_client",
]
