"""Who may ask this server for what: API keys with scopes."""
