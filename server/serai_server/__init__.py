"""Serai's server: owns the truth about jobs in one store and speaks gRPC only. It knows no UCloud JSON."""
