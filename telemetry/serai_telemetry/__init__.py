"""Counting and tracing: what the parts of Serai tell about their work, and how it is shown. Knows none of them."""
