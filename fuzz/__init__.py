"""Fuzzing: what anybody may send to Serai, in a million wrong ways. `make fuzz`; how it judges, and what it found: docs/fuzzing.md."""

import sys
from pathlib import Path

# The seeds are the tests' golden messages, and the stack is the tests' own; both are in no installed package.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
