"""Other packages; each module imports its own, and only when it is asked for."""
