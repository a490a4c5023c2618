"""Who adapters belong to: tenants, what they may use of others, and how much of everything."""
