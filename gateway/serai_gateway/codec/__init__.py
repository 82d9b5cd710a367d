"""UCloud's JSON, both ways, compiled from the descriptors. `Codec` is the face; see `codec.codec`."""

from serai_gateway.codec.codec import Codec
from serai_gateway.codec.errors import WireError

__all__ = ["Codec", "WireError"]
