"""Admission of requests to the engine: who leases their adapters."""
