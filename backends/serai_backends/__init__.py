"""Backends run replicas. They know neither protobuf nor UCloud, and import nothing of the server."""
