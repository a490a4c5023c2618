"""Routes of who may do what, and how much: keys, tenants, grants, rates."""
