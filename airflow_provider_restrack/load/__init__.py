"""Move records into and out of Kafka and into Cassandra. Knows nothing of Airflow."""
