"""Cache backends that follow an ElastiCache cluster while the process lives."""
