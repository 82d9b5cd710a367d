"""Ratios of speed, measured side by side in one run. `python -m bench` runs them; absolute rates of a shared machine mean nothing."""

import sys
from pathlib import Path

# Measurements borrow the tests' fakes, which are in no installed package.
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
