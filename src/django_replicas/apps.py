"""The Django application."""

from django.apps import AppConfig


class DjangoReplicasConfig(AppConfig):
    name = "django_replicas"
    label = "django_replicas"
    verbose_name = "Replicas"

    def ready(self) -> None:
        from . import checks  # noqa: F401, PLC0415 - registers the checks once apps are loaded
        from .conflicts import watch_followers  # noqa: PLC0415 - needs the settings
        from .leaders import watch_leaders  # noqa: PLC0415 - needs the settings

        watch_leaders()
        watch_followers()
