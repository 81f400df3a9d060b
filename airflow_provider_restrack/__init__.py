"""Track the resources of a fleet of servers from Apache Airflow, through Kafka into Cassandra."""

__version__ = "0.1.0"
