"""Capacity: rollups of samples, forecasts of what will be full, and sizes that would fit. Knows nothing of
Airflow.
"""
