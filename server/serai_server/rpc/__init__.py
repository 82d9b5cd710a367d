"""The server's gRPC front: one chain for every call, whether it comes from the socket or from the gateway in the same process."""
