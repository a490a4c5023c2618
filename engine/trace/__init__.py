"""Trace of arrivals: recorded beside the requests, kept in bounded space, exported."""
