"""Disks that folders are read from: which one a path is on, and threads for each."""
