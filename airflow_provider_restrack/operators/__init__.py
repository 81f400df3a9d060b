"""Airflow operators, one class a file: they read templates and connections, call a core, log and return."""
