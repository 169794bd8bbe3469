"""Put the first messages on an empty board."""

from django.core.management.base import BaseCommand

from example.board.models import Like, Message

CONVERSATIONS = [
    (
        "ada",
        "The engine weaves algebraical patterns just as the loom weaves flowers.",
        [
            ("charles", "And it still jams when it is damp."),
            ("mary", "May I quote you in a footnote?"),
        ],
    ),
    (
        "grace",
        "Found a moth in relay 70. Taped it into the log book.",
        [
            ("ada", "First actual case of a bug being found!"),
            ("edsger", "I would rather call it an error."),
            ("grace", "Call it what you like, it had wings."),
        ],
    ),
    (
        "edsger",
        "Testing shows the presence of bugs, never their absence.",
        [
            ("barbara", "True. I still want the tests."),
        ],
    ),
    (
        "leslie",
        "A distributed system: the failure of a computer that you did not know existed "
        "makes yours unusable.",
        [
            ("barbara", "Ours is down. Is that you?"),
            ("leslie", "Exactly."),
        ],
    ),
    (
        "barbara",
        "Lunch at noon, at the usual place. Who is coming?",
        [
            ("grace", "Save me a seat."),
            ("mary", "Me too!"),
        ],
    ),
    ("mary", "Just posted this. If you are reading it on a follower, a second has passed.", []),
]
LIKES = [("ada", 2), ("leslie", 2), ("mary", 2), ("grace", 1), ("edsger", 4), ("barbara", 4)]


class Command(BaseCommand):
    help = __doc__

    def handle(self, *args: object, **options: object) -> None:
        shown = [self.converse(*conversation) for conversation in CONVERSATIONS]
        for author, number in LIKES:
            Like.objects.create(message=shown[number - 1], author=author)

    def converse(self, author: str, text: str, replies: list[tuple[str, str]]) -> Message:
        opening = Message.objects.create(author=author, text=text)
        for replier, reply in replies:
            Message.objects.create(author=replier, text=reply, answers=opening)
        return opening
