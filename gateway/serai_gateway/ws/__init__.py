"""WebSockets of UCloud: who may connect, and what they carry."""
