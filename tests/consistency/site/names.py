"""What things are called, for the site and for those who watch it."""

VARIABLE = "DJANGO_REPLICAS_CONSISTENCY"
TABLE = "counter"
SHARED = "shared"


def counter_of_jobs(owner):
    return f"{owner}-jobs"
