"""A session engine with a model of its own."""
