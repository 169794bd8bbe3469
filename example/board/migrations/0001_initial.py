"""The tables of the board."""

from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation
from django.db.models.deletion import CASCADE
from django.utils import timezone

KEY = models.BigAutoField(primary_key=True, auto_created=True, serialize=False, verbose_name="ID")
ANSWERED = models.ForeignKey("board.message", CASCADE, null=True, related_name="replies")
LIKED = models.ForeignKey("board.message", CASCADE, related_name="likes")


class Migration(migrations.Migration):
    initial = True
    operations: ClassVar[list[Operation]] = [
        migrations.CreateModel(
            "Message",
            [
                ("id", KEY),
                ("author", models.CharField(db_index=True, max_length=40)),
                ("text", models.TextField(max_length=500)),
                ("written_at", models.DateTimeField(default=timezone.now)),
                ("edited_at", models.DateTimeField(null=True)),
                ("answers", ANSWERED),
            ],
            {"ordering": ("-id",)},
        ),
        migrations.CreateModel(
            "Like",
            [
                ("id", KEY.clone()),
                ("author", models.CharField(max_length=40)),
                ("message", LIKED),
            ],
            {
                "constraints": [
                    models.UniqueConstraint(fields=("message", "author"), name="one_like_each")
                ]
            },
        ),
    ]
