from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models


class Shelf(models.Model):
    name = models.CharField(max_length=50)

    def __str__(self):
        return self.name


class Book(models.Model):
    """Its title says which database it was read from."""

    title = models.CharField(max_length=50)
    note = models.CharField(max_length=50, default="", unique=False)
    code = models.CharField(max_length=20, unique=True, null=True, default=None)  # noqa: DJ001 - unique
    shelf = models.ForeignKey(Shelf, models.CASCADE, null=True, related_name="books")
    sequel = models.ForeignKey("self", models.CASCADE, null=True, related_name="prequels")
    labels = models.ManyToManyField("Label", related_name="books")

    def __str__(self):
        return self.title


class Label(models.Model):
    word = models.CharField(max_length=50)

    def __str__(self):
        return self.word


class Remark(models.Model):
    text = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveIntegerField()
    about = GenericForeignKey()

    def __str__(self):
        return self.text
