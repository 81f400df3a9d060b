"""Decide whether the stored samples breach a rule. Pure: time is an argument. Knows nothing of Airflow."""
