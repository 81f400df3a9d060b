"""Airflow notifiers, one class a file."""
