"""Sources that are in other registries: MLflow."""
