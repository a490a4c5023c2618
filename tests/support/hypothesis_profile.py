"""Hypothesis profile: no example and no strategy fails a test by its time.

A busy machine may take any time for either.
"""

from hypothesis import HealthCheck, settings

settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
