"""The message board itself: an ordinary Django app that knows little of routing."""
