"""Take samples of hosts: the agent that runs on a host, and the fan-out to many. Knows nothing of Airflow."""
