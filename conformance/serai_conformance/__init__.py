"""A kit that tests any UCloud compute provider over the wire alone: the calls and rules of UCloud's two documents, and of today's Core.

It plays Core: it signs as Core does, makes the calls that Core makes, and, where the provider under test is set up for it, takes the calls
that the provider makes to Core. It knows nothing of any provider's inside.
"""

from serai_conformance.model import CannotTest, Generation, Report, Result, Rule, Status, Target
from serai_conformance.rules import RULES
from serai_conformance.run import run

__all__ = ["RULES", "CannotTest", "Generation", "Report", "Result", "Rule", "Status", "Target", "run"]
