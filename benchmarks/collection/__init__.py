"""A thousand hosts from one task, beside Ansible, ssh subprocesses and one Airflow task per host."""
