"""The ordinary suite once more, its pages being read through followers."""

import os
from pathlib import Path

from django.test import TransactionTestCase

from django_replicas import unit_of_work
from django_replicas.test import SharedFollowersMixin, assert_reads_from, recorded_reads

from . import tests
from .models import Book


class Counted:
    """Adds the aliases that answered each test to a file, where one is named."""

    def run(self, result=None):
        with recorded_reads() as reads:
            outcome = super().run(result)
        if "SAMPLE_COUNTS" in os.environ:
            with Path(os.environ["SAMPLE_COUNTS"]).open("a") as file:
                file.writelines(f"{read.alias}\n" for read in reads)
        return outcome


for name, case in list(vars(tests).items()):
    if isinstance(case, type) and issubclass(case, TransactionTestCase) and "Tests" in name:
        bases = (SharedFollowersMixin, Counted, case)
        globals()[f"Shared{name}"] = type(f"Shared{name}", bases, {"__module__": __name__})
# Found once, in their own module.
del case


class RoutingTests(SharedFollowersMixin, tests.LibraryTestCase):
    def test_pages_are_read_from_followers(self):
        with assert_reads_from("follower"):
            self.client.get("/books/")

    def test_what_was_written_is_read_from_the_leader(self):
        with assert_reads_from("leader"):
            self.client.post("/books/add/", {"author": "Octavia", "title": "Seed"}, follow=True)

    def test_units_read_from_followers(self):
        with unit_of_work(role="follower"), assert_reads_from("follower", models=[Book]):
            self.assertEqual(Book.objects.get().title, "Always")
