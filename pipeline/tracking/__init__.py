"""MLflow: runs, registry, and what dvc.lock knows."""
