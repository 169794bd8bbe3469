"""Projects of older packages: settings as a README has them, changed only in dotted paths."""

from contextlib import contextmanager

from django.conf import settings
from django.core.signals import setting_changed
from django.test import override_settings


@contextmanager
def without_replicas(**older):
    """Have these settings in a project that has no ``REPLICAS``."""
    with override_settings(**older):
        del settings.REPLICAS
        setting_changed.send(sender=None, setting="REPLICAS", value=None, enter=True)
        yield
    setting_changed.send(sender=None, setting="REPLICAS", value=None, enter=False)


def settings_in(text, **names):
    """Return the settings that a settings module of this text has."""
    module = dict(names)
    exec(text, module)
    return {name: value for name, value in module.items() if name.isupper()}


def in_turn(answers):
    """Tell whether two followers answered turn by turn."""
    return len(set(answers)) == 2 and all(
        answer == answers[place % 2] for place, answer in enumerate(answers)
    )
