"""The one model that everything is measured on."""

from typing import ClassVar

from django.db import models


class Note(models.Model):
    """As wide as models usually are, because what a leader executes is read as text."""

    title = models.CharField(max_length=100)
    text = models.TextField()
    author = models.CharField(max_length=100)
    language = models.CharField(max_length=10)
    rating = models.IntegerField(default=0)

    # Django's own default, named because its type is known for installed applications only.
    objects: ClassVar[models.Manager["Note"]] = models.Manager()

    def __str__(self) -> str:
        return self.title
