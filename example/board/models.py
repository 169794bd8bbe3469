"""Messages, replies to them, and who likes which."""

from django.db import models
from django.urls import reverse
from django.utils import timezone

NAME_LENGTH = 40
TEXT_LENGTH = 500


class Message(models.Model):
    """A message on the board, or a reply to one."""

    author = models.CharField(max_length=NAME_LENGTH, db_index=True)
    text = models.TextField(max_length=TEXT_LENGTH)
    written_at = models.DateTimeField(default=timezone.now)
    edited_at = models.DateTimeField(null=True)
    answers = models.ForeignKey(
        "self", null=True, on_delete=models.CASCADE, related_name="replies", db_index=True
    )

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.author}: {self.text}"

    def get_absolute_url(self) -> str:
        return reverse("message", args=[self.pk])


class Like(models.Model):
    """Somebody likes a message."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="likes")
    author = models.CharField(max_length=NAME_LENGTH)

    class Meta:
        constraints = (models.UniqueConstraint(fields=("message", "author"), name="one_like_each"),)

    def __str__(self) -> str:
        return f"{self.author} likes message {self.message_id}"
