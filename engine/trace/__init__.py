"""Trace of arrivals: recorded beside the requests, kept in bounded space, exported."""

FORMAT = 2
"""2: a request's adapter may be null, the base model. A reader of 1 refuses such a line. It is here
because who reads an exported trace needs no class of a line."""
