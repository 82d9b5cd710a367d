"""What Nomad tells, in the words of serai_backends.model. Pure functions, no I/O.

observe     an allocation as the observation of a rank
ending      how an allocation ended and whose doing it was
driver      a driver's words, as a kind of cause and its detail
start       the exit codes that belong to the start script and not to the program
times       Nomad's times in ms
network     addresses and ports
unplaced    why a job is not placed, for the person who waits
"""

from serai_backends.nomad.observed.network import address_of, endpoints_of
from serai_backends.nomad.observed.observe import Around, fetching, is_over, may_be_start, observe, runs
from serai_backends.nomad.observed.unplaced import why_unplaced

__all__ = ["Around", "address_of", "endpoints_of", "fetching", "is_over", "may_be_start", "observe", "runs", "why_unplaced"]
