"""A whole pipeline, who speaks when: its stages and its task stand in ``parity/pipeline``."""

from samevoice.parity.roles import Role

# Of every recording, even one of silence.
JUDGED = (
    ("log_probabilities", "free"),
    ("masks", "forced"),
    ("count", "forced"),
    ("turns", "forced"),
)
# The fast configuration has a name of its own: its result is no proof of the exact one.
ROLES = (Role("full", JUDGED), Role("fast", JUDGED))
