"""The demo: a tiny base model, six adapters for it, and the script that makes them."""
