"""The board's pages."""

from django.urls import path

from example.board import views

urlpatterns = [
    path("", views.board, name="board"),
    path("enter/", views.enter, name="enter"),
    path("people/<slug:name>/", views.person, name="person"),
    path("messages/new/", views.post, name="post"),
    path("messages/<int:pk>/", views.message, name="message"),
    path("messages/<int:pk>/reply/", views.reply, name="reply"),
    path("messages/<int:pk>/edit/", views.edit, name="edit"),
    path("messages/<int:pk>/like/", views.like, name="like"),
]
