"""Fields and tables as data; how Cassandra is reached, provisioned and read. Knows nothing of Airflow."""
