"""One table: whose counter, and how far it is."""

from django.db import models

from .names import TABLE


class Counter(models.Model):
    owner = models.CharField(max_length=50, primary_key=True)
    value = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = TABLE

    def __str__(self):
        return f"{self.owner}: {self.value}"
