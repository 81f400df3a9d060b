"""Airflow triggers, one class a file: what a deferred sensor or an AssetWatcher waits for."""
