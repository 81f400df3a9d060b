"""A fleet's rules over its samples, beside Prometheus and the read of one host after another."""
