"""Tenants and the grants between them."""
