"""The agent that runs on a host."""
