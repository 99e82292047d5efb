"""PLDA: arrays that are copied. There is nothing to run, so nothing to feed."""

from samevoice.parity.roles import Role

ROLES = (Role("plda"),)
