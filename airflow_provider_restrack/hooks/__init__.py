"""Airflow connections turned into clients of SSH, Kafka and Cassandra."""
