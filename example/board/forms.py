"""What people can send to the board."""

from django import forms

from example.board.models import NAME_LENGTH, TEXT_LENGTH


class NameForm(forms.Form):
    """Who is writing: no password, a name is enough here."""

    name = forms.SlugField(
        max_length=NAME_LENGTH,
        widget=forms.TextInput(attrs={"aria-label": "Name", "autofocus": ""}),
    )


class TextForm(forms.Form):
    """The text of a message or of a reply."""

    text = forms.CharField(
        max_length=TEXT_LENGTH,
        widget=forms.Textarea(
            attrs={"rows": 3, "aria-label": "Message", "placeholder": "What is new?"}
        ),
    )
