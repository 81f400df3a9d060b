"""Airflow sensors, one class a file."""
