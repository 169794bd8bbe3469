"""The Django project of the demo."""
