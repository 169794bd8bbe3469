"""The site that the histories are about: counters that only grow."""
