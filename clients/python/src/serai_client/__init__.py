"""Client for Serai, a UCloud compute provider: start jobs, watch them, follow what they write.

`Client` is for plain code, `AsyncClient` for asyncio; both are context managers. Messages and stubs, which are generated from Serai's
protos, are in `serai_client.api`: a job begins with `client.jobs.Submit`.
"""

from serai_client.aio import AsyncClient
from serai_client.errors import explain, reason
from serai_client.job import exit_code, is_final
from serai_client.options import Options
from serai_client.sync import Client

__all__ = ["AsyncClient", "Client", "Options", "exit_code", "explain", "is_final", "reason"]
