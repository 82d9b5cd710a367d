"""A small UCloud provider for the conformance kit's own tests: right without a fault, and wrong in one planted way with one.

It is written from the same sources as the kit and shares no code with it or with Serai. Jobs are real processes of this machine, without
isolation; `/etc/ucloud` in a command is a folder of the test.
"""

from fakes.broken_provider.faults import Fault
from fakes.broken_provider.provider import PROVIDER, BrokenProvider

__all__ = ["PROVIDER", "BrokenProvider", "Fault"]
