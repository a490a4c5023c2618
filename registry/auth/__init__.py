"""API keys, scopes, callers and what each may see."""
