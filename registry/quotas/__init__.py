"""Limits of tenants and their usage."""
