"""The loader beside its peers, from a topic into Cassandra: rows a second, client CPU, memory, contents."""
