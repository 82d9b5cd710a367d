"""Ratios of speed, measured side by side in one run. `python -m bench` runs them; absolute rates of a shared machine mean nothing."""
