"""The console: static pages that a browser runs over our REST API."""
