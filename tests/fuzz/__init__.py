"""Damaged and hostile files, by the thousand, and what samevoice must never do with one."""
