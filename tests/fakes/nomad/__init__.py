"""A Nomad agent that runs inside the tests, by the rules that a real one was seen to follow.

agent       FakeAgent: settings, life of the agent itself, what tests may do to it
cluster     what the servers know: one index, tables, events
spec        the job as it was sent, as far as the fake looks at it
shapes      what the servers know as Nomad's JSON
broker      the event stream
scheduler   which allocation goes where, and why not
runner      an allocation's life on its node; drivers.py what runs its tasks; template.py what is written for them
rest        the plain calls; files.py logs, shell.py exec
"""

from fakes.nomad.agent import FakeAgent
from fakes.nomad.cluster import NodeSpec

__all__ = ["FakeAgent", "NodeSpec"]
