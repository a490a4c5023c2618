"""HTTP below the application: uvicorn protocol, middleware before all routes, limits, health."""
