"""Tests of the clients in all languages against a live Serai: `make clients`."""
