"""Rates: what a key, a tenant or an address may ask for in a minute."""
