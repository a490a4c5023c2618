"""What a tenant may have at most, and how much of it it has."""
