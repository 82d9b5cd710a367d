"""What Nomad is asked to run.

model       the types
codes       how a replica's start says why it failed
texts       words of users on their way through Nomad and the shell, byte by byte
view        which folders a replica sees, and where
scripts     the start script, the one that prepares a node, the firewall's; the .sh files beside are their bodies
network     the group's network and the names of other ranks
drivers     the main task, for each driver
job         build: all of it together
folder      the job's folder on the server: made, owned, inputs looked at (access: as the job's user)
hcl         the same job for people
"""

from serai_backends.nomad.jobfile.folder import CannotPrepare, JobFolders
from serai_backends.nomad.jobfile.hcl import hcl
from serai_backends.nomad.jobfile.job import FIREWALL_MHZ, FIREWALL_MIB, LEAST_MIB, build, spec_hash
from serai_backends.nomad.jobfile.model import JSON, NOBODY, JobFile, Prepared

__all__ = [
    "FIREWALL_MHZ",
    "FIREWALL_MIB",
    "JSON",
    "LEAST_MIB",
    "NOBODY",
    "CannotPrepare",
    "JobFile",
    "JobFolders",
    "Prepared",
    "build",
    "hcl",
    "spec_hash",
]
